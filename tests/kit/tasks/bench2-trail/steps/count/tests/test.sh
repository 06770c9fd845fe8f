#!/bin/bash
. /tests/shared.sh
check "$(cat /app/count.txt 2>/dev/null)" 5
