#!/bin/bash
cd /app
mkdir -p answer
{ find .github/workflows -type f -name '*.yml' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } | sed '$d' > answer/largest.txt
