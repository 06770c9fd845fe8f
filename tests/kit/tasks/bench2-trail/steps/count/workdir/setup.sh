#!/bin/bash
sort /app/.more > /app/more.txt && rm /app/.more
