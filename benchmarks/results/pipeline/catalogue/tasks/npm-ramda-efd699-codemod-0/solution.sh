#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-8237.txt > /tmp/names
sed -f /tmp/names package.json > /app/answer/package.json
