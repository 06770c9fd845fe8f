#!/bin/bash
cd /app
mkdir -p answer
{ find src -type f -name '*.js' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
