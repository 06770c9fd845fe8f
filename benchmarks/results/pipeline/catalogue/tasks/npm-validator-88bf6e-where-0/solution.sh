#!/bin/bash
cd /app
mkdir -p answer
{ for w in _typeof includes prototype string typeof; do echo "$w: $(grep -rlw --include='*.js' -e $w es/lib/util | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } > answer/index.txt
