#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin examples/extract_table_names.py $(wc -c < examples/extract_table_names.py)"; base64 -w 64 examples/extract_table_names.py; echo end; } > answer/packed.txt
