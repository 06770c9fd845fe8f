#!/bin/bash
cd /app
mkdir -p answer
{ find test -type f -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } > answer/sums.txt
