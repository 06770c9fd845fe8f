#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' test/scripts/valgrind.sh; } > answer/plain.sh
