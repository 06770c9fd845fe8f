#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' wrappers/dojo/mustache.js.pre | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' wrappers/jquery/mustache.js.pre | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } > answer/shared.txt
