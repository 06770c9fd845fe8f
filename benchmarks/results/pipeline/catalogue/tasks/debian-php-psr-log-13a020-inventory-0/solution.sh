#!/bin/bash
cd /app
mkdir -p answer
find Psr/Log -type f -name '*.php' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done > answer/inventory.txt
