#!/bin/bash
cd /app
mkdir -p answer
{ find docs -type f -name '*.md' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
