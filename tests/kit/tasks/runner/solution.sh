echo 'echo $(($1 + $2))' > /app/answer
