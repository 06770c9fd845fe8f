#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(//|$)' source/utilities.js; } > answer/plain.js
