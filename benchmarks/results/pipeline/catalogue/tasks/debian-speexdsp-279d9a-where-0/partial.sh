#!/bin/bash
cd /app
mkdir -p answer
{ for w in dot_seen new_top_distdir order shared variable; do echo "$w: $(grep -rlw --include='*.in' -e $w win32 | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } | sed '$d' > answer/index.txt
