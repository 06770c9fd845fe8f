#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bUSE_DOH\b/USE_DOH_7426/g' src/console.cpp | sed '0,/USE_DOH_7426/s/USE_DOH_7426/USE_DOH/' > /app/answer/console.cpp
