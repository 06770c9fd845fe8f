#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' pyproject.toml; } | sed '$d' > answer/plain.toml
