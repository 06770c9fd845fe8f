#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bstderr\b/stderr_8397/g' src/node.js | sed '0,/stderr_8397/s/stderr_8397/stderr/' > /app/answer/node.js
