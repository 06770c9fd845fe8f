#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.js' -F addElse lib/coffee-script | grep -v ':0$' | LC_ALL=C sort | tail -n +2 > answer/mentions.txt
