#!/bin/bash
cd /app
mkdir -p answer
{ perl -ne 'print "  " x (length($1) - 1), "- $2\n" if /^(#{1,6}) +([^ ].*)$/' README.md; } > answer/outline.txt
