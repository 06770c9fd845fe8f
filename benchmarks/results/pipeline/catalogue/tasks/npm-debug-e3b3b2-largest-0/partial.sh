#!/bin/bash
cd /app
mkdir -p answer
{ find src -type f -name '*.js' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } | sed '$d' > answer/largest.txt
