#!/bin/bash
cd /app
mkdir -p answer
{ awk '{n[int(length($0) / 10) * 10]++} END {for (k in n) print k, n[k]}' readme.md | sort -n; } | sed '$d' > answer/histogram.txt
