#!/bin/bash
cd /app
mkdir -p answer
{ find cli/src/tests/helpers -type f -name '*.rs' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } | sed '$d' > answer/largest.txt
