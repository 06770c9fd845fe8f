#!/bin/bash
cd /app
mkdir -p answer
{ find lib -type f -name '*.c' -print0 | xargs -0 grep -hoE '^#include <[A-Za-z0-9_./+-]+' | sed -E 's/^#include <//' | LC_ALL=C sort | uniq -c | awk '{print $1, $2}'; } | sed '$d' > answer/imports.txt
