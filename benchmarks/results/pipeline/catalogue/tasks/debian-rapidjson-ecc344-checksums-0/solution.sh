#!/bin/bash
cd /app
mkdir -p answer
{ find doc/misc -type f -name '*.html' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } > answer/sums.txt
