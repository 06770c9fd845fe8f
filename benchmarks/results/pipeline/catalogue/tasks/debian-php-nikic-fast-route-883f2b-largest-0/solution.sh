#!/bin/bash
cd /app
mkdir -p answer
{ find test/HackTypechecker -type f -name '*.php' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
