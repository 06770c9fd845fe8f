#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(//|$)' source/utilities.js; } | sed '$d' > answer/plain.js
