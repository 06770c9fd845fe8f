#!/bin/bash
cd /app
mkdir -p answer
{ echo "begin src/aio/poller_poll.h $(wc -c < src/aio/poller_poll.h)"; base64 -w 64 src/aio/poller_poll.h; echo end; } > answer/packed.txt
