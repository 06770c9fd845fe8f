#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.yml' -F credentials .github/workflows | grep -v ':0$' | LC_ALL=C sort > answer/mentions.txt
