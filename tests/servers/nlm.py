"""NLM's mirror: ``/pubmed/baseline/`` and ``/pubmed/updatefiles/`` as Apache lists them, with md5 sidecars."""

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
    """The mirror; its address for the fetcher is :attr:`base_url`.

    ``link`` makes the ``href`` of a file from its folder and its name; ``dates`` false leaves the dates out.
    ``before`` is called with the path of each request before it is answered: it may change what is there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, dict[str, _File]] = {folder: {} for folder in FOLDERS}
        self.link: Callable[[str, str], str] = lambda folder, name: name
        self.dates = True
        self.before: Callable[[str], None] = lambda path: None

    @property
    def base_url(self) -> str:
        """What the fetcher is told."""
        return f"{self.url}pubmed/"

    @property
    def downloads(self) -> list[str]:
        """The files that were asked for, sidecars and listings left out."""
        return [path.rpartition("/")[2] for path in self.requests if path.endswith(".xml.gz")]

    def add(
        self,
        folder: str,
        name: str,
        xml: bytes,
        modified: datetime.datetime = datetime.datetime(2026, 1, 14, 14, 5),
        md5: str | None = None,
    ) -> str:
        """Put a file there, and its sidecar; return the md5.

        :param xml: its content, which is compressed here.
        :param md5: what the sidecar says, if that is wrong.
        """
        content = gzip.compress(xml, mtime=0)
        digest = md5 or hashlib.md5(content).hexdigest()
        sidecar = f"MD5({name})= {digest}\n".encode()
        self.files[folder] |= {name: _File(content, modified), f"{name}.md5": _File(sidecar, modified)}
        return digest

    def remove(self, folder: str, name: str) -> None:
        """Take a file and its sidecar away."""
        del self.files[folder][name]
        del self.files[folder][f"{name}.md5"]

    def answer(self, request: Request) -> Answer:
        self.before(request.path)
        _, root, folder, *names = [*request.path.split("/"), ""][:5]
        if root != "pubmed" or folder not in FOLDERS or len(names) < 1:
            return NOT_FOUND
        if not names[0]:
            return Answer(self.listing(folder).encode(), "text/html;charset=ISO-8859-1")
        file = self.files[folder].get(names[0])
        if file is None:
            return NOT_FOUND
        headers = {
            "ETag": f'"{hashlib.sha256(file.content).hexdigest()[:16]}"',
            "Last-Modified": http_date(file.modified.replace(tzinfo=datetime.UTC).timestamp()),
            "Accept-Ranges": "bytes",
        }
        return Answer(file.content, "application/x-gzip", headers=headers)

    def listing(self, folder: str) -> str:
        """The page that lists a folder."""
        rows = ['<a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a> <a href="?C=S;O=A">Size</a>  <hr>']
        rows.append('<a href="/pubmed/">Parent Directory</a>                              -   ')
        rows.append('<a href="README.txt">README.txt</a>               2026-01-10 10:29  4.5K  ')
        for name, file in sorted(self.files[folder].items()):
            date = f" {file.modified:%Y-%m-%d %H:%M}" if self.dates else ""
            rows.append(f'<a href="{self.link(folder, name)}">{name}</a>{date} {len(file.content):>5}  ')
            if name.endswith(".gz"):
                stats = name.replace(".xml.gz", "_stats.html")
                rows.append(f'<a href="{stats}">{stats}</a>{date}   585  ')
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
