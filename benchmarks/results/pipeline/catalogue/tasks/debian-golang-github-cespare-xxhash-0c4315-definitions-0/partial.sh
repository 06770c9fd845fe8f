#!/bin/bash
cd /app
mkdir -p answer
grep -oE '^func +[A-Za-z_][A-Za-z0-9_]*' xxhsum/xxhsum.go | sed -E 's/^func +//' | LC_ALL=C sort -u | sed '$d' > answer/names.txt
