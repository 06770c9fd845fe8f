#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin examples/quick_example.py $(wc -c < examples/quick_example.py)"; base64 -w 64 examples/quick_example.py; echo end; } | sed '$d' > answer/packed.txt
