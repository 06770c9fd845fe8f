#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bcenter\b/center_2235/g' src/ccd/ccd.h > /app/answer/ccd.h
