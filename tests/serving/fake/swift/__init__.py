"""Stands in for ms-swift in the endpoint's process: ``deploy`` with canned answers, as a real HTTP server.

``FAKE_SWIFT`` says how it behaves: ``dies``, ``another model``, ``empty`` (answers), ``silent`` (never listens),
``loads`` (listens before it has a model), ``stubborn`` (ignores SIGTERM, and has a child that does so too), or
anything else for well. Asked to ``talk for ever`` or to ``break down``, it does.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOUR = os.environ.get("FAKE_SWIFT", "")
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def deploy_main(arguments: list[str]) -> None:
    options = dict(zip([name.removeprefix("--") for name in arguments[::2]], arguments[1::2], strict=True))
    if BEHAVIOUR == "dies":
        sys.exit("RuntimeError: the weights are no weights")
    if BEHAVIOUR == "silent":
        print("loading", flush=True)
        time.sleep(600)
    if BEHAVIOUR == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    model = "another-model" if BEHAVIOUR == "another model" else options["served_model_name"]

    lookups = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if BEHAVIOUR == "loads" and next(lookups) < 2:
                self.answer(503, b'{"message": "loading"}')
                return
            self.answer(200, json.dumps({"data": [{"id": model}]}).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["Authorization"] != f"Bearer {options['api_key']}":
                self.answer(400, b'{"message": "API key error"}')
                return
            turns = request["messages"]
            if "break down" in turns[-1]["content"]:
                self.answer(500, b'{"message": "out of memory"}')
                return
            text = "" if BEHAVIOUR == "empty" else f"turn {len(turns)}: you said {turns[-1]['content']!r}"
            if request.get("stream"):
                self.stream(text)
                return
            row = {"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": len(text.split())}}
            self.answer(200, json.dumps(row).encode())

        def stream(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            words = [f"{word} " for word in text.split(" ")]
            if "for ever" in text:
                words *= 1000
            try:
                for word in words:
                    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": model}
                    chunk["choices"] = [{"index": 0, "delta": {"content": word}, "finish_reason": None}]
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                    self.wfile.flush()
                    time.sleep(0.02)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                print("the client went away", flush=True)

        def log_message(self, *_: object) -> None:
            """No line for each request."""

    ThreadingHTTPServer((options["host"], int(options["port"])), Handler).serve_forever()
