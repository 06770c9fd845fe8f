#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bbytes\b/bytes_3530/g' src/requests/compat.py | sed '0,/bytes_3530/s/bytes_3530/bytes/' > /app/answer/compat.py
