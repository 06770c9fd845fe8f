#!/bin/bash
cd /app
mkdir -p answer
{ awk 'index($0, "def test_adding_nonwrappers_trylast(") == 1 {on = 1; print; next} on && /^[^ \t]/ {exit} on {print}' testing/test_hookcaller.py | sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}'; } > answer/block.txt
