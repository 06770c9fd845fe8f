#!/bin/bash
cd /app
mkdir -p answer
{ grep -vE '^[ 	]*(#|$)' pyproject.toml; } > answer/plain.toml
