#!/bin/bash
cd /app
mkdir -p answer
{ find src/ujson/deps/double-conversion -type f -name '*.h' -printf '%s %p\n' | sort -k1,1nr | head -n 3; } > answer/largest.txt
