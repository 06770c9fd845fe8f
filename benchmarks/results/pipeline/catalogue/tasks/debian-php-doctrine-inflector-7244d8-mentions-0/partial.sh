#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.php' -F iterable lib/Doctrine/Inflector/Rules/English | grep -v ':0$' | LC_ALL=C sort | tail -n +2 > answer/mentions.txt
