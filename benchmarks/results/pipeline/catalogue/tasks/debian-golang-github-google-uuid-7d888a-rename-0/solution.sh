#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_9868/g' node_net.go > /app/answer/node_net.go
