#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' src/x86/ffi.c | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' src/x86/ffi64.c | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } | sed '$d' > answer/shared.txt
