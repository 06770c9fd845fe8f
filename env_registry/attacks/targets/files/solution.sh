printf 'quicksilver-7301-heron\n' > /app/answer.txt
