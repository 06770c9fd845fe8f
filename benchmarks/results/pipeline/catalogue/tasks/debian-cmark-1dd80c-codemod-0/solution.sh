#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-9035.txt > /tmp/names
sed -f /tmp/names src/houdini.h > /app/answer/houdini.h
