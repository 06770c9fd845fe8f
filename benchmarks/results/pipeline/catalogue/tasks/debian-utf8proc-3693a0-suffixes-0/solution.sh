#!/bin/bash
cd /app
mkdir -p answer
{ find bench -type f -name '?*.*' -printf '%f\n' | grep -oE '[^/]\.[a-z0-9]+$' | sed 's/^.//' | LC_ALL=C sort | uniq -c | awk '{print $2, $1}'; } > answer/suffixes.txt
