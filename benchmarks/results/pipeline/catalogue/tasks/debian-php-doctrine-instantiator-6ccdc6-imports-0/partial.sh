#!/bin/bash
cd /app
mkdir -p answer
{ find src/Doctrine/Instantiator -type f -name '*.php' -print0 | xargs -0 grep -hoE '^use [A-Za-z0-9_\\]+' | sed -E 's/^use //' | LC_ALL=C sort | uniq -c | awk '{print $1, $2}'; } | sed '$d' > answer/imports.txt
