#!/bin/bash
cat /app/birds.txt /app/more.txt | wc -l > /app/count.txt
