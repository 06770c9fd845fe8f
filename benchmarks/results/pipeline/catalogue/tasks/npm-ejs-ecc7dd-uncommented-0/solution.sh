#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(//|$)' lib/esm/utils.js; } > answer/plain.js
