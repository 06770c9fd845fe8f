#!/bin/bash
cd /app
mkdir -p answer
sed 's/\binclude\b/include_2556/g' debug.c | sed '0,/include_2556/s/include_2556/include/' > /app/answer/debug.c
