#!/bin/bash
cd /app
mkdir -p answer
find src -type f -name '*.php' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done | tail -n +2 > answer/inventory.txt
