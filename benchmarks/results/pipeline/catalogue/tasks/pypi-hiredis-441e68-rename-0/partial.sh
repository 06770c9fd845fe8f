#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_6428/g' src/pack.c | sed '0,/return_6428/s/return_6428/return/' > /app/answer/pack.c
