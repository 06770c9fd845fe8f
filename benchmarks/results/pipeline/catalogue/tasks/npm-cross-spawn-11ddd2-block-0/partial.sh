#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "function escapeArgument(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' lib/util/escape.js | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } | sed '$d' > answer/block.txt
