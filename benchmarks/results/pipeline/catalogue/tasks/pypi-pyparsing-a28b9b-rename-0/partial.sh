#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bthousands\b/thousands_6596/g' examples/number_words.py | sed '0,/thousands_6596/s/thousands_6596/thousands/' > /app/answer/number_words.py
