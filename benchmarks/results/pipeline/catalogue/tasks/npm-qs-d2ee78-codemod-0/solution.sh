#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-8322.txt > /tmp/names
sed -f /tmp/names eslint.config.mjs > /app/answer/eslint.config.mjs
