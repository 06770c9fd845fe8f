#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin COPYING $(wc -c < COPYING)"; base64 -w 64 COPYING; echo end; } | sed '$d' > answer/packed.txt
