#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' tests/test_charcase.test | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' tests/test_float.test | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } | sed '$d' > answer/shared.txt
