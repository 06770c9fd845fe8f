#!/bin/bash
cd /app
mkdir -p answer
{ for w in LargestUInt Writer optimized param while; do echo "$w: $(grep -rlw --include='*.h' -e $w include/json | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } | sed '$d' > answer/index.txt
