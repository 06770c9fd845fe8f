#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-5408.txt > /tmp/names
sed -f /tmp/names es6/react.js > /app/answer/react.js
