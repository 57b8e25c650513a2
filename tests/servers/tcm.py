"""A site of classics in both layouts of 中医世家; the texts are ours."""

from __future__ import annotations

from collections.abc import Iterable

from servers.base import NOT_FOUND, Answer, Request, Server

SECTION = "/lilunshuji/"


class TcmSite(Server):
    """Pages by path, made by :meth:`add_whole` and :meth:`add_chapters`.

    ``lists`` are the pages that name books: their names, such as ``index___1.html``, with the books' folders. In the
    older layout the index names the other lists. ``advertisement`` stands on every page and changes nothing. A site
    that ``answers_everything`` shows its index where it has nothing.
    """

    def __init__(self, *, old_layout: bool = False) -> None:
        super().__init__()
        self.old_layout = old_layout
        self.pages: dict[str, bytes] = {}
        self.lists: dict[str, list[str]] = {"index.html": []}
        self.robots: str | None = None
        self.advertisement = ""
        self.redirects: dict[str, str] = {}
        self.answers_everything = False

    def add_whole(self, book: str, sections: Iterable[tuple[str, str]], listed: str = "index.html") -> str:
        """A book with a page that holds it all; its path."""
        parts = "".join(
            f'<div class="section" id="{number}"><h3 class="title">{title}</h3><p>{text}</p></div>'
            for number, (title, text) in enumerate(sections)
        )
        path = f"{SECTION}{book}/quanben.html"
        self.pages[path] = self._page(f"《{book}》_中医世家", f"<h1>《{book}》</h1><h2>朝代：清</h2>", parts)
        self.lists.setdefault(listed, []).append(book)
        return path

    def add_chapters(self, book: str, chapters: Iterable[tuple[str, str]], listed: str = "index.html") -> list[str]:
        """A book in chapters; their paths."""
        links, paths = "", []
        for number, (title, text) in enumerate(chapters, start=1):
            path = f"{SECTION}{book}/{number}.html"
            self.pages[path] = self._page(f"《{book}》_{title}_中医世家", "", f"<h1>{title}</h1><p>{text}</p>")
            links += f'<li><a href="{path}#top">{title}</a></li>'
            paths.append(path)
        name = "table-of-contents" if self.old_layout else "catalog-content"
        contents = f'<ul id="{name}">{links}<li><a href="{SECTION}else/9.html">别书</a></li></ul>'
        self.pages[f"{SECTION}{book}/index.html"] = self._page(book, contents, None)
        self.lists.setdefault(listed, []).append(book)
        return paths

    def answer(self, request: Request) -> Answer:
        if request.path == "/robots.txt" and self.robots is not None:
            return Answer(self.robots.encode(), "text/plain")
        if to := self.redirects.get(request.path):
            return Answer(status=302, headers={"Location": to})
        body = self.pages.get(request.path)
        name = request.path.removeprefix(SECTION)
        if body is None and name in self.lists:
            body = self._list(name)
        if body is None and self.answers_everything:
            body = self._list("index.html")
        if body is None:
            return NOT_FOUND
        return Answer(body.replace(b"<ad>", self.advertisement.encode()), "text/html")

    def _list(self, name: str) -> bytes:
        books = "".join(
            f'<li><a href="{SECTION}{book}/index.html" title="{book}">{book}</a></li>' for book in self.lists[name]
        )
        for no_book in ("https://elsewhere.example/lilunshuji/x/", "/zhongyaocai/gancao/", "./", "http://[broken/"):
            books += f'<li><a href="{no_book}index.html">友情链接</a></li>'
        if not self.old_layout:
            return self._page("书目", f'<div id="list-content"><ul>{books}</ul></div>', None)
        lists = "".join(f'<dd><a href="{SECTION}{other}">{other}</a></dd>' for other in self.lists)
        tabs = (
            f'<div id="tab-nav"><dl><dt>分类</dt>{lists}<dd><a href="/zhongyaocai/index.html">药材</a></dd></dl></div>'
        )
        return self._page("书目", f'{tabs}<ul id="tab-content">{books}</ul>', None)

    @staticmethod
    def _page(title: str, top: str, content: str | None) -> bytes:
        body = "" if content is None else f'<div id="content">{content}</div>'
        head = f'<meta charset="utf-8"><title>{title}</title>'
        return f"<!DOCTYPE html><html><head>{head}</head><body><ad>{top}{body}</body></html>".encode()
