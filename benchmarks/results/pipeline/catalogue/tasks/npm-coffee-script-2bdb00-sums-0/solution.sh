#!/bin/bash
cd /app
mkdir -p answer
{ find lib -type f -name '*.js' | LC_ALL=C sort | while read -r f; do s=$(perl -ne 'while (/(?<![A-Za-z0-9_])([0-9]{1,6})(?![A-Za-z0-9_])/g) {$n += $1} END {print "$n"}' "$f"); echo "$f ${s:-0}"; done; } > answer/sums.txt
