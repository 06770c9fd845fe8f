#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.rst' -F class docs | grep -v ':0$' | LC_ALL=C sort > answer/mentions.txt
