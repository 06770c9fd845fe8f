#!/bin/bash
cd /app
mkdir -p answer
sed -E 's,^(.*) (.*)$,s/\\b\1\\b/\2/g,' names-6641.txt | sed '$d' > /tmp/names
sed -f /tmp/names testsuite/libffi.closures/cls_many_mixed_args.c > /app/answer/cls_many_mixed_args.c
