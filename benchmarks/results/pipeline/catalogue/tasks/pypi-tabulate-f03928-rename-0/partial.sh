#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bimport\b/import_9687/g' test/common.py | sed '0,/import_9687/s/import_9687/import/' > /app/answer/common.py
