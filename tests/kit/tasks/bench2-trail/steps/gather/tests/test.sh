#!/bin/bash
[ -e /tests/planted ] && exit 1
lines=$(wc -l < /app/birds.txt 2>/dev/null || echo 0)
if [ "$lines" -eq 3 ]; then echo 1.0; elif [ "$lines" -gt 0 ]; then echo 0.5; else echo 0; fi > /logs/verifier/reward.txt
