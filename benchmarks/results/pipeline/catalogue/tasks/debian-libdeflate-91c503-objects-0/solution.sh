#!/bin/bash
cd /app
mkdir -p answer
{ find . \( -path ./node_modules -o -path ./.venv \) -prune -o -type f \( -name '?*.o' -o -name '?*.a' -o -name '?*.so' -o -name '?*.lo' -o -name '?*.la' -o -name '?*.d' -o -name '?*.class' -o -name '?*.jar' -o -name '?*.pyc' \) -print | sed 's,^\./,,' | while read -r f; do echo "$(dirname "$f") .${f##*.}"; done | LC_ALL=C sort | uniq -c | awk '{print $2, $3, $1}' | LC_ALL=C sort; } > answer/objects.txt
