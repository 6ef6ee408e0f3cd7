"""A model server that says the same to everybody, in Ollama's wire format, from a pod.

For tests of what surrounds a model. Arguments: port, names of the models it has.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = "It is in the document [1]."
MODELS = sys.argv[2:]
VECTOR = [1.0] + [0.0] * 63


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        return

    def reply(self, *lines):
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(
            {"version": "scripted", "models": [{"name": name, "model": name} for name in MODELS]}
        )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path.startswith("/api/embed"):
            texts = body.get("input", "")
            count = len(texts) if isinstance(texts, list) else 1
            self.reply({"embeddings": [VECTOR] * count, "embedding": VECTOR})
        elif body.get("stream") is False:
            self.reply({"message": {"role": "assistant", "content": ANSWER}, "done": True})
        else:
            words = [{"message": {"content": word + " "}, "done": False} for word in ANSWER.split()]
            self.reply(*words, {"message": {"content": ""}, "done": True})


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
