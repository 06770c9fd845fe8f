#!/bin/bash
echo 85094 > /app/key.txt
mkdir -p /app/parts
for i in 1 2 3 4 5; do cut -c$i /app/key.txt > /app/parts/$i; done
