"""NLM's mirror: ``baseline/`` and ``updatefiles/`` as Apache lists them, gzip files, md5 sidecars."""

from __future__ import annotations

import datetime
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from servers.base import NOT_FOUND, Answer, Request, Server, http_date

FOLDERS = ("baseline", "updatefiles")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    modified: datetime.datetime


class NlmMirror(Server):
    """The mirror; the fetcher is told :attr:`url`.

    ``files`` are the contents by their path, such as ``baseline/pubmed26n0001.xml.gz``. Without ``dates`` the listings
    have none. ``before`` is called with the path of each request before it is answered: it may change what is there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, _File] = {}
        self.dates = True
        self.before: Callable[[str], None] = lambda path: None

    @property
    def downloads(self) -> list[str]:
        """The files that were asked for, sidecars and listings left out."""
        return [path.lstrip("/") for path in self.requests if path.endswith(".xml.gz")]

    def add(self, folder: str, name: str, xml: bytes, date: str = "2026-01-14") -> str:
        """Publish a file, compressed here, and its sidecar; ``date`` is what the listing says. Returns the md5."""
        modified = datetime.datetime.fromisoformat(f"{date}T14:05:00+00:00")
        content = gzip.compress(xml, mtime=0)
        self.files[f"{folder}/{name}"] = _File(content, modified)
        return self.set_md5(folder, name, hashlib.md5(content).hexdigest())

    def set_md5(self, folder: str, name: str, digest: str) -> str:
        """Publish this md5 beside a file."""
        modified = self.files[f"{folder}/{name}"].modified
        self.files[f"{folder}/{name}.md5"] = _File(f"MD5({name})= {digest}\n".encode(), modified)
        return digest

    def remove(self, folder: str, name: str) -> None:
        """Take a file and its sidecar away."""
        del self.files[f"{folder}/{name}"]
        del self.files[f"{folder}/{name}.md5"]

    def answer(self, request: Request) -> Answer:
        self.before(request.path)
        path = request.path.lstrip("/")
        if path.rstrip("/") in FOLDERS and path.endswith("/"):
            return Answer(self.listing(path.rstrip("/")).encode(), "text/html;charset=ISO-8859-1")
        file = self.files.get(path)
        if file is None:
            return NOT_FOUND
        headers = {
            "ETag": f'"{hashlib.sha256(file.content).hexdigest()[:16]}"',
            "Last-Modified": http_date(file.modified.timestamp()),
            "Accept-Ranges": "bytes",
        }
        return Answer(file.content, "text/plain" if path.endswith(".md5") else "application/x-gzip", headers=headers)

    def listing(self, folder: str) -> str:
        """The page that lists a folder."""
        rows = [
            '<a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a> <a href="?C=S;O=A">Size</a>  <hr>',
            '<a href="/">Parent Directory</a>                              -   ',
            '<a href="README.txt">README.txt</a>               2026-01-10 10:29  4.5K  ',
        ]
        for path, file in sorted(self.files.items()):
            at, _, name = path.partition("/")
            if at != folder:
                continue
            date = f" {file.modified:%Y-%m-%d %H:%M}" if self.dates else ""
            rows.append(f'<a href="{name}">{name}</a>{date} {len(file.content):>5}  ')
            if name.endswith(".gz"):
                statistics = name.replace(".xml.gz", "_stats.html")
                rows.append(f'<a href="{statistics}">{statistics}</a>{date}   585  ')
        title = f"Index of /pubmed/{folder}"
        return f"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<html>
 <head>
  <title>{title}</title>
 </head>
 <body>
<h1>{title}</h1>
<pre>{chr(10).join(rows)}
<hr></pre>
<a href="https://www.hhs.gov/vulnerability-disclosure-policy/index.html">HHS Vulnerability Disclosure</a>
</body></html>
"""
