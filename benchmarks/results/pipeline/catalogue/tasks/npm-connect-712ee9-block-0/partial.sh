#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "function getProtohost(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' index.js | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } | sed '$d' > answer/block.txt
