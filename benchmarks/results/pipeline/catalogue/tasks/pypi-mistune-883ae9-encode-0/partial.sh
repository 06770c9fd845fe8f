#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin src/mistune/directives/include.py $(wc -c < src/mistune/directives/include.py)"; base64 -w 64 src/mistune/directives/include.py; echo end; } | sed '$d' > answer/packed.txt
