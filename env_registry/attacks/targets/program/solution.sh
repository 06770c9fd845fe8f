printf 'echo $(($1 + $2))\n' > /app/answer
