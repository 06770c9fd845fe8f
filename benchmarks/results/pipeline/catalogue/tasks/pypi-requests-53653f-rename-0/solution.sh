#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bbytes\b/bytes_3530/g' src/requests/compat.py > /app/answer/compat.py
