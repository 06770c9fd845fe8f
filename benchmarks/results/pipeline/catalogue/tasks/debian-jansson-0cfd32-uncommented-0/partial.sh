#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' test/scripts/valgrind.sh; } | sed '$d' > answer/plain.sh
