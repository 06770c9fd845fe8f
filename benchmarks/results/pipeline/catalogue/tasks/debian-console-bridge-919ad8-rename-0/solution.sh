#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bUSE_DOH\b/USE_DOH_7426/g' src/console.cpp > /app/answer/console.cpp
