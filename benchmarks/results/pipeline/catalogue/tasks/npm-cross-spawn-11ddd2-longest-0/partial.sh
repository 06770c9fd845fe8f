#!/bin/bash
cd /app
mkdir -p answer
find lib/util -type f -name '*.js' -exec wc -l {} + | grep -v ' total$' | sort -rn | head -n 1 | sed 's/^ *[0-9]* //' > answer/which.txt
