#!/bin/bash
cd /app
mkdir -p answer
find bin/jsonschema/tests/draft3 -type f -name '*.json' | LC_ALL=C sort | while read -r f; do echo "$(wc -l < "$f") $f"; done > answer/inventory.txt
