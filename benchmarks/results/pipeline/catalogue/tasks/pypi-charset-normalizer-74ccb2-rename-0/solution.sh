#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_4244/g' _build_hook/backend.py > /app/answer/backend.py
