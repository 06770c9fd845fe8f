#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' examples/statemachine/statemachine.py; } | sed '$d' > answer/plain.py
