#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bindexOf\b/indexOf_5643/g' source/utilities.js > /app/answer/utilities.js
