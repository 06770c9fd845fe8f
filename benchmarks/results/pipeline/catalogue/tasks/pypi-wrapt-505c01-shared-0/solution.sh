#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' tests/mypy/mypy_function_wrapper_fn_t6.py | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' tests/mypy/mypy_function_wrapper_fn_t7.py | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } > answer/shared.txt
