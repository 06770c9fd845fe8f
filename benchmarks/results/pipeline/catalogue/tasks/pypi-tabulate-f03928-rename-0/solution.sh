#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bimport\b/import_9687/g' test/common.py > /app/answer/common.py
