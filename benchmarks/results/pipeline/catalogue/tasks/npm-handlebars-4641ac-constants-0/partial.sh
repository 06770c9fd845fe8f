#!/bin/bash
cd /app
mkdir -p answer
{ grep -oE '\b[A-Z][A-Z0-9_]{3,}\b' dist/cjs/handlebars/compiler/printer.js | LC_ALL=C sort | uniq -c | LC_ALL=C sort -k1,1nr -k2,2 | awk '{print $1, $2}'; } | sed '$d' > answer/constants.txt
