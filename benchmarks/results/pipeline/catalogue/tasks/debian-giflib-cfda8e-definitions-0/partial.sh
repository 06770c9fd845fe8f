#!/bin/bash
cd /app
mkdir -p answer
grep -oE '^#define +[A-Za-z_][A-Za-z0-9_]*' getarg.h | sed -E 's/^#define +//' | LC_ALL=C sort -u | sed '$d' > answer/names.txt
