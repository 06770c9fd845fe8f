#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin LICENSE $(wc -c < LICENSE)"; base64 -w 64 LICENSE; echo end; } > answer/packed.txt
