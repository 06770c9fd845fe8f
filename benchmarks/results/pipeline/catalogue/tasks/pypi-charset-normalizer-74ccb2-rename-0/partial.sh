#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_4244/g' _build_hook/backend.py | sed '0,/return_4244/s/return_4244/return/' > /app/answer/backend.py
