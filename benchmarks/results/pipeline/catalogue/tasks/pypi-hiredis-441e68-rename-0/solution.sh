#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_6428/g' src/pack.c > /app/answer/pack.c
