"""A publisher of one file and one page, that can be told to fail."""

import hashlib
import random

from servers.base import Answer, Request, Server, http_date

CONTENT = random.Random(7).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Publisher(Server):
    """``answers`` by path; ``asked`` are the requests with their headers."""

    def __init__(self) -> None:
        super().__init__()
        validators = {"ETag": '"one"', "Last-Modified": http_date(1e9)}
        self.answers = {
            "/file.gz": Answer(CONTENT, "application/x-gzip", headers=validators),
            "/page": Answer(b"a page", "text/plain"),
        }
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answers.get(request.path, Answer(b"the reason", "text/plain", 404))

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.asked]
