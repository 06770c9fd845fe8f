#!/bin/bash
cd /app
mkdir -p answer
{ awk '/^\[[^]]*\]/ {if (on) print name, n; name = substr($0, 2, index($0, "]") - 2); n = 0; on = 1; next} on && /^[A-Za-z][A-Za-z0-9_.-]* *=/ {n++} END {if (on) print name, n}' pyproject.toml; } > answer/sections.txt
