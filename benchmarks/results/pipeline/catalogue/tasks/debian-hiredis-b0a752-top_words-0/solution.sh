#!/bin/bash
cd /app
mkdir -p answer
{ tr 'A-Z' 'a-z' < examples/example-libuv.c | LC_ALL=C tr -cs 'a-z' '\n' | grep . | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2,2 | head -n 10 | awk '{print $1, $2}'; } > answer/words.txt
