#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breflect\b/reflect_9915/g' radix_test.go | sed '0,/reflect_9915/s/reflect_9915/reflect/' > /app/answer/radix_test.go
