#!/bin/bash
cd /app
mkdir -p answer
{ perl -ne 'print "  " x (length($1) - 1), "- $2\n" if /^(#{1,6}) +([^ ].*)$/' benchmark/README.md; } | sed '$d' > answer/outline.txt
