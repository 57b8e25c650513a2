"""A real HTTP server in a thread of the test, on a free port, that can be told to fail."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

ERROR_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body>Something went wrong.</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with an answer; one of these.

    ``status`` (with ``retry_after`` in its header) instead of the answer; the connection ``cut`` after so many bytes;
    a Content-Length that is ``wrong_length`` bytes too long; an ``html`` error page with status 200; ``slow``: so many
    bytes a second; ``corrupt``: one byte of the body is another one.
    """

    status: int = 0
    retry_after: str | None = None
    cut: int | None = None
    wrong_length: int = 0
    html: bool = False
    slow: int = 0
    corrupt: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for: the path, the first value of each parameter, the headers, and what was sent along."""

    path: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says; with an ETag or a Last-Modified among the headers, ranges are served.

    ``stream`` instead of a body: blocks that are sent as they come.
    """

    body: bytes = b""
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None


NOT_FOUND = Answer(b"not found", "text/plain", 404)


@dataclass(slots=True)
class _Planned:
    path: re.Pattern[str]
    fault: Fault
    times: int | None


class Server:
    """A publisher; its kinds say in :meth:`answer` what it has.

    ``requests`` are the paths that were asked for, with their queries, in order; ``headers`` are theirs, in lower case.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(_Handler):
            publisher = server

        self._http = _Http(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address of the server, with a slash at its end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/"

    def fail(self, path: str, fault: Fault, times: int | None = 1) -> None:
        """Let the next ``times`` requests (``None``: all) whose path and query hold the pattern ``path`` go wrong."""
        with self._lock:
            self._planned.append(_Planned(re.compile(path), fault, times))

    def heal(self) -> None:
        """Take back all faults."""
        with self._lock:
            self._planned.clear()

    def answer(self, request: Request) -> Answer:
        """What the publisher says when nothing goes wrong."""
        return NOT_FOUND

    def take_fault(self, path: str, headers: dict[str, str], method: str = "GET") -> Fault:
        """Note a request, and say what goes wrong with it; patterns see a method that is not GET before the path."""
        with self._lock:
            self.requests.append(path)
            self.headers.append(headers)
            told = path if method in ("GET", "HEAD") else f"{method} {path}"
            for planned in self._planned:
                if planned.times != 0 and planned.path.search(told):
                    if planned.times is not None:
                        planned.times -= 1
                    return planned.fault
        return Fault()

    def sleep(self, seconds: float) -> bool:
        """Wait, but not beyond the end of the test; whether it has come."""
        return self._closing.wait(seconds)


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a reader that has had enough is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    publisher: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each body waits 40 ms for the reader to acknowledge the headers

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        parameters = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        # Read in any case, or what is left of it is taken for the next request.
        body = self.rfile.read(int(headers.get("content-length", 0)))
        fault = self.publisher.take_fault(self.path, headers, self.command)
        if fault.status:
            extra = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            answer = Answer(b"no", "text/plain", fault.status, extra)
        elif fault.html:
            answer = Answer(ERROR_PAGE, "text/html; charset=utf-8")
        else:
            request = Request(parts.path, parameters, headers, self.command, body)
            answer = _part(self.publisher.answer(request), headers)
        self._send(answer, fault)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _send(self, answer: Answer, fault: Fault) -> None:
        body = answer.body
        if fault.corrupt and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
        if answer.stream is not None:
            self._send_stream(answer, fault)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body) + fault.wrong_length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if fault.cut is not None or fault.wrong_length:
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body if fault.cut is None else body[: fault.cut]
        try:
            if fault.slow:
                self._drip(sent, fault.slow)
            else:
                self.wfile.write(sent)
        except OSError:
            self.close_connection = True  # the reader has had enough

    def _send_stream(self, answer: Answer, fault: Fault) -> None:
        """Blocks as they come; one that is cut off lacks its end."""
        self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = sys.maxsize if fault.cut is None else fault.cut
        assert answer.stream is not None
        try:
            for block in answer.stream:
                part = block[:left]
                left -= len(part)
                self.wfile.write(f"{len(block):x}\r\n".encode() + part)
                if len(part) < len(block):
                    return
                self.wfile.write(b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            return  # the reader has had enough

    def _drip(self, body: bytes, bytes_per_second: int) -> None:
        step = max(1, bytes_per_second // 20)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self.wfile.flush()
            if self.publisher.sleep(step / bytes_per_second):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the requests are noted."""


def _part(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """The range that was asked for, if the answer is still the one that the reader has the beginning of."""
    asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
    validators = [answer.headers.get("ETag"), answer.headers.get("Last-Modified")]
    if answer.status != 200 or not asked or headers.get("if-range", validators[0]) not in validators:
        return answer
    start, size = int(asked[1]), len(answer.body)
    if start >= size:
        return Answer(b"", answer.content_type, 416, {"Content-Range": f"bytes */{size}"})
    extra = {**answer.headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
    return Answer(answer.body[start:], answer.content_type, 206, extra)


def http_date(seconds: float) -> str:
    """A time as HTTP writes it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))
