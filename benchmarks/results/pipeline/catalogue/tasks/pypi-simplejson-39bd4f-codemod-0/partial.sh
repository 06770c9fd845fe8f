#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-3217.txt | sed '$d' > /tmp/names
sed -f /tmp/names README.rst > /app/answer/README.rst
