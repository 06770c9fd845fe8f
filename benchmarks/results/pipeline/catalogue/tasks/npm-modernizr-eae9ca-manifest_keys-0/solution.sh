#!/bin/bash
cd /app
mkdir -p answer
{ grep -nE '^  "[A-Za-z0-9_.@/-]+":' lib/config-all.json | sed -E 's/^([0-9]+):  "([^"]+)":.*/\1 \2/'; } > answer/keys.txt
