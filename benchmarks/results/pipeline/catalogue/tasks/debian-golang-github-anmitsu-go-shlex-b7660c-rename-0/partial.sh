#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bSplit\b/Split_5488/g' example_test.go | sed '0,/Split_5488/s/Split_5488/Split/' > /app/answer/example_test.go
