#!/bin/sh
set -e
mkdir -p /app
cd /app
total=0
for number in $(seq 1 1000); do
    total=$((total + number))
done
printf 'hello, world\n%s\n' "$total" > greeting.txt
