#!/bin/bash
cd /app
mkdir -p answer
{ find cmake -type f -name '*.cmake' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
