#!/bin/bash
echo "three herons" > /app/note.txt
chmod 600 /app/note.txt
