#!/bin/bash
cd /app
mkdir -p answer
{ grep '[^[:space:]]' examples/obj_sticher/obj_writer.cc | LC_ALL=C sort -u > /tmp/one; grep '[^[:space:]]' examples/skin_weight/main.cc | LC_ALL=C sort -u > /tmp/other; LC_ALL=C comm -12 /tmp/one /tmp/other; } | sed '$d' > answer/shared.txt
