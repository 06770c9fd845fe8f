#!/bin/bash
cd /app
mkdir -p answer
{ find cmake -type f -name '*.cmake' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } | sed '$d' > answer/largest.txt
