#!/bin/bash
cd /app
mkdir -p answer
{ find .github/workflows -type f -name '*.yml' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
