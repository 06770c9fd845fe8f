#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.php' -F empty src | grep -v ':0$' | LC_ALL=C sort | tail -n +2 > answer/mentions.txt
