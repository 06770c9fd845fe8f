mkdir -p /app/log; printf 'quicksilver-7301-heron\n' > /app/log/today
