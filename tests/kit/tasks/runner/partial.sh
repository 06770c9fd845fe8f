echo 'echo 42' > /app/answer
