#!/bin/bash
cd /app
mkdir -p answer
{ find cli/src/tests/helpers -type f -name '*.rs' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
