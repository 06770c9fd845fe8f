#!/bin/bash
cd /app
mkdir -p answer
sed 's/\binclude\b/include_2556/g' debug.c > /app/answer/debug.c
