#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' lib/marked.esm.js | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' lib/marked.umd.js | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } > answer/shared.txt
