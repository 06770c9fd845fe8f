#!/bin/bash
cd /app
mkdir -p answer
{ perl -ne 'print "$1\n" if /\b([0-9]+\.[0-9]+\.[0-9]+)\b/ && !$seen{$1}++' ChangeLog.md; } | sed '$d' > answer/versions.txt
