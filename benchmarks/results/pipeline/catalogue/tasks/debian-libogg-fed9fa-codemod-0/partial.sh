#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-5944.txt | sed '$d' > /tmp/names
sed -f /tmp/names doc/libogg/oggpack_writetrunc.html > /app/answer/oggpack_writetrunc.html
