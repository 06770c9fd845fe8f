#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.txt' -F bottle bottle.egg-info | grep -v ':0$' | LC_ALL=C sort > answer/mentions.txt
