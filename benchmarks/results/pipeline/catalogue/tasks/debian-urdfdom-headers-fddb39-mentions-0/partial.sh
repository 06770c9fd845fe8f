#!/bin/bash
cd /app
mkdir -p answer
grep -rc --include='*.h' -F element urdf_model | grep -v ':0$' | LC_ALL=C sort | tail -n +2 > answer/mentions.txt
