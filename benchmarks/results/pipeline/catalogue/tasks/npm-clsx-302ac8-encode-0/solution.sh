#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin package.json $(wc -c < package.json)"; base64 -w 64 package.json; echo end; } > answer/packed.txt
