#!/bin/bash
cd /app
mkdir -p answer
{ find tinydb -type f -name '*.py' -print0 | xargs -0 grep -hoE '^(import|from) [A-Za-z0-9_]+' | sed -E 's/^(import|from) //' | LC_ALL=C sort | uniq -c | awk '{print $1, $2}'; } > answer/imports.txt
