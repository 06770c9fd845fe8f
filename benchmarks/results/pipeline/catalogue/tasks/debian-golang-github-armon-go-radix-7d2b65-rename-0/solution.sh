#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breflect\b/reflect_9915/g' radix_test.go > /app/answer/radix_test.go
