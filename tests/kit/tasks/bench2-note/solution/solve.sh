#!/bin/bash
set -e
cp /solution/words.txt /app/note.txt
