#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "func TestGzip(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' go/zopfli/zopfli_test.go | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } > answer/block.txt
