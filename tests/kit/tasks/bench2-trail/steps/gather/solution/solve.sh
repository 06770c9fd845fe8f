#!/bin/bash
printf "heron\nteal\nwren\n" > /app/birds.txt
