#!/bin/bash
cd /app
mkdir -p answer
find src -type f -name '*.py' -exec wc -l {} + | grep -v ' total$' | sort -rn | head -n 1 | sed 's/^ *[0-9]* //' > answer/which.txt
