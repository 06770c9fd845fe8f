#!/bin/bash
cd /app
mkdir -p answer
sed 's/\bstderr\b/stderr_8397/g' src/node.js > /app/answer/node.js
