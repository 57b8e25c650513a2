"""What 中医世家's text dumps and pages share: a book, and the documents that a section of it becomes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medllm_ops.records import Document
from medllm_ops.sources.dialogues import content_id
from medllm_ops.sources.tcm_text import cut

NAME = "tcm_books"
URL = "https://www.zysj.com.cn/"
LICENCE = "public domain (text from before 1949)"

MAX_CHARACTERS = 1_200
"""Characters of one record's text; a Chinese character is one token or two, so it fits a window of 2,048."""
MAX_TITLE_CHARACTERS = 120

_YEAR = re.compile(r"\d{4}")
_FIRST_YEAR_UNDER_COPYRIGHT = 1949
_OLD_DYNASTY = re.compile(
    r"[（(〔\[]?(?:先秦|春秋|战国|三国|南北朝|五代|[东西南北前后]?(?:秦|汉|魏|晋|隋|唐|宋|辽|金|元|明|清|周|梁|陈|齐))"
)


@dataclass(slots=True)
class Book:
    """What is known of a book.

    ``old_collection`` says that it came with old books only, so that it is old unless it says otherwise itself.
    """

    title: str
    author: str = ""
    dynasty: str = ""
    year: str = ""
    old_collection: bool = True

    @property
    def licence(self) -> str:
        """Free if it is from before 1949; nothing if that is not known, or it names a later year."""
        years = [int(year) for year in _YEAR.findall(self.year)]
        if years:
            return LICENCE if max(years) < _FIRST_YEAR_UNDER_COPYRIGHT else ""
        return LICENCE if self.old_collection or _OLD_DYNASTY.match(self.dynasty) else ""


def documents_of(
    book: Book, path: tuple[str, ...], section: str | None, paragraphs: Sequence[str], url: str = URL
) -> list[Document]:
    """The documents of a section: its paragraphs, cut to :data:`MAX_CHARACTERS`, under the book's title.

    :param path: the titles of volume and chapter above the section.
    :return: nothing for a section without paragraphs.
    """
    if not paragraphs:
        return []
    heading = section or (path[-1] if path else "")
    head = f"《{book.title}》{heading}"[:MAX_TITLE_CHARACTERS]
    origin = "，".join(filter(None, (book.dynasty, book.author, book.year)))
    place = "·".join(filter(None, (*path, section)))
    title = f"《{book.title}》" + (f"（{origin}）" if origin else "") + place
    identifier = content_id(NAME, book.title, book.author, path, section, paragraphs)
    texts = cut(list(paragraphs), MAX_CHARACTERS - len(head) - 1)
    return [
        Document(
            id=identifier if len(texts) == 1 else f"{identifier}#{number}",
            source=NAME,
            language="zh",
            title=title,
            text=f"{head}\n{text}",
            url=url,
            licence=book.licence,
        )
        for number, text in enumerate(texts, start=1)
    ]
