"""A reward service for `scoring: [{type: remote, url: "http://127.0.0.1:8900/score"}]`; docs/judges.md."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def reward(messages: list[dict], response: str, metadata: dict) -> float | None:
    """Shorter is better; null where there is nothing to score."""
    return 1 / (1 + len(response.split())) if response.strip() else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = [
            {"id": item["id"], "reward": reward(item["messages"], item["response"], item["metadata"])}
            for item in request["items"]
        ]
        body = json.dumps({"scores": scores}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8900), Handler).serve_forever()
