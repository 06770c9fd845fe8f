#!/bin/bash
cd /app
mkdir -p answer
find devtools -type f -name '*.py' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done > answer/inventory.txt
