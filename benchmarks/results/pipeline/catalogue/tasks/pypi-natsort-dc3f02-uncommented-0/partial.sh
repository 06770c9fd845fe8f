#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' tests/test_parse_string_function.py; } | sed '$d' > answer/plain.py
