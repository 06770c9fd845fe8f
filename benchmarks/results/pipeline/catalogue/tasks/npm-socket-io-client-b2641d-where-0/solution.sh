#!/bin/bash
cd /app
mkdir -p answer
{ for w in force interface manager onclose reconnect; do echo "$w: $(grep -rlw --include='*.ts' -e $w build/cjs | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"; done; } > answer/index.txt
