#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "def uvarint(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' src/snappy/snappy_formats.py | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } > answer/block.txt
