#!/bin/bash
cd /app
mkdir -p answer
sed 's/\breturn\b/return_9868/g' node_net.go | sed '0,/return_9868/s/return_9868/return/' > /app/answer/node_net.go
