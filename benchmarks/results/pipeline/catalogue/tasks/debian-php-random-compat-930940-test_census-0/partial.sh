#!/bin/bash
cd /app
mkdir -p answer
{ find tests/full -type f -name '*.php' -print0 | xargs -0 grep -HcE '^ *public function test' | sed -E 's/^(.*):([0-9]+)$/\2 \1/' | grep -v '^0 ' | LC_ALL=C sort -k1,1nr -k2,2; } | sed '$d' > answer/tests.txt
