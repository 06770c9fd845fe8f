#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "def IsHeaderFile(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' .ycm_extra_conf.py | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } | sed '$d' > answer/block.txt
