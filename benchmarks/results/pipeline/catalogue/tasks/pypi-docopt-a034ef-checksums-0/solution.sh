#!/bin/bash
cd /app
mkdir -p answer
{ find examples/git -type f -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } > answer/sums.txt
