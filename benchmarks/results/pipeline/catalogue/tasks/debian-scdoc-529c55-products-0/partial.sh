#!/bin/bash
cd /app
mkdir -p answer
(find . -type f | sed 's,^\./,,' | LC_ALL=C sort | while read -r f; do [ "$(head -c 4 "$f" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] && echo "$f"; done) | tail -n +2 > answer/products.txt
true
