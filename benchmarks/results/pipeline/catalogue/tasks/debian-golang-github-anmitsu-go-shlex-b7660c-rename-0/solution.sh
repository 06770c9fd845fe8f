#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bSplit\b/Split_5488/g' example_test.go > /app/answer/example_test.go
