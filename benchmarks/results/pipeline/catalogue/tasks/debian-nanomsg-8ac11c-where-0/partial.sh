#!/bin/bash
cd /app
mkdir -p answer
{ for w in Address NN_RESPONDENT POSIX resides written; do echo "$w: $(grep -rlw --include='*.adoc' -e $w doc | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } | sed '$d' > answer/index.txt
