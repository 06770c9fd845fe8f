#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' examples/statemachine/statemachine.py; } > answer/plain.py
