#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' esm/plugin/timezone/index.js | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' esm/plugin/toArray/index.js | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } > answer/shared.txt
