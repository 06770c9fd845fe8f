#!/bin/sh
mkdir -p /app
echo 'hello, world' > /app/greeting.txt
