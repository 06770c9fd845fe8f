#!/bin/bash
cd /app
mkdir -p answer
{ for w in boolean deepEqual false github number; do echo "$w: $(grep -rlw --include='*.js' -e $w test | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } > answer/index.txt
