#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "func NewLexer(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' shlex.go | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } > answer/block.txt
