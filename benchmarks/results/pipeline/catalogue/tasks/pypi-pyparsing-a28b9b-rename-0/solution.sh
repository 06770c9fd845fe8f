#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bthousands\b/thousands_6596/g' examples/number_words.py > /app/answer/number_words.py
