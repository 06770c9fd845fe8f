#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-1574.txt > /tmp/names
sed -f /tmp/names QUALITY_DECLARATION.md > /app/answer/QUALITY_DECLARATION.md
