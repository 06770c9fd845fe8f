#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin documentation/conf.py $(wc -c < documentation/conf.py)"; base64 -w 64 documentation/conf.py; echo end; } | sed '$d' > answer/packed.txt
