#!/bin/bash
cd /app
mkdir -p answer
find lib/util -type f -name '*.js' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done | tail -n +2 > answer/inventory.txt
