#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bindexOf\b/indexOf_5643/g' source/utilities.js | sed '0,/indexOf_5643/s/indexOf_5643/indexOf/' > /app/answer/utilities.js
