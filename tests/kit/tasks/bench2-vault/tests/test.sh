#!/bin/bash
whole=0
joined=0
[ "$STRICTNESS" = full ] && [ "$(cat /app/key.txt)" = "$(cat /tests/secret.txt)" ] && whole=1
[ "$(tr -d '\n' < /logs/artifacts/joined.txt)" = "$(cat /tests/secret.txt)" ] && [ ! -e /app/parts/9.tmp ] && joined=1
printf '{"reward": %s, "joined": %s}\n' $((whole * joined)) $joined > /logs/verifier/reward.json
echo 0 > /logs/verifier/reward.txt
