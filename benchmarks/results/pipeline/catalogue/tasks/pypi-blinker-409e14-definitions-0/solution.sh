#!/bin/bash
cd /app
mkdir -p answer
grep -oE '^def +[A-Za-z_][A-Za-z0-9_]*' tests/test_signals.py | sed -E 's/^def +//' | LC_ALL=C sort -u > answer/names.txt
