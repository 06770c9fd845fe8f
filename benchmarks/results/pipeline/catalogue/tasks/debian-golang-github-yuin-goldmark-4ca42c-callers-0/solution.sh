#!/bin/bash
cd /app
mkdir -p answer
{ find parser -type f -name '*.go' -print0 | xargs -0 grep -Hn '\bProcessDelimiters(' | sed -E 's/^([^:]*:[0-9]+):.*/\1/' | LC_ALL=C sort -t: -k1,1 -k2,2n; } > answer/callers.txt
