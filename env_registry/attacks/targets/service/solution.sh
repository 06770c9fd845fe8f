cat > /app/server.py <<'END'
from http.server import BaseHTTPRequestHandler, HTTPServer


class Sums(BaseHTTPRequestHandler):
    def do_GET(self):
        _, a, b = self.path.split("/")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(int(a) + int(b)).encode())

    def log_message(self, *told):
        pass


HTTPServer(("127.0.0.1", 8077), Sums).serve_forever()
END
setsid python3 /app/server.py > /dev/null 2>&1 < /dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if (exec 3<> /dev/tcp/127.0.0.1/8077) 2> /dev/null; then break; fi
    read -rt 0.2 _ <> <(:) || :
done
