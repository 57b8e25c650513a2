"""One citation of PubMed: what its XML says of title, paragraphs and retraction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from lxml import etree

from medllm_ops.sources.text import tidy_line, without_copyright, without_mail_addresses, without_telephone_numbers

_RETRACTIONS = ("RetractionIn", "RetractedandRepublishedIn")
_TRUNCATED = re.compile(r"\s*[(\[]?\bABSTRACT TRUNCATED(?: AT \d+ WORDS)?\b[)\]]?\.?")
_CONTACT_LABELS = ("CONTACT", "CONTACTS", "CONTACT INFORMATION", "CORRESPONDENCE", "E-MAIL", "EMAIL")
_PARSER = etree.XMLParser(
    encoding="utf-8", resolve_entities=False, load_dtd=False, no_network=True, remove_comments=True, remove_pis=True
)
_PREFIXES = (
    b'<set xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:xlink="http://www.w3.org/1999/xlink"'
    b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">%b</set>'
)


def parse_xml(data: bytes) -> etree._Element:
    """Parse one record strictly; no DOCTYPE can precede it, so no entity but XML's own five exists.

    :raises etree.XMLSyntaxError: if it is not well formed.
    """
    try:
        return etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        if getattr(error, "code", 0) != etree.ErrorTypes.NS_ERR_UNDEFINED_NAMESPACE:
            raise
        # The prefix may be declared on the set, or only by the DTD.
        return etree.fromstring(_PREFIXES % data, _PARSER)[0]


def is_number(text: str) -> bool:
    """Whether it is a PMID or a version: up to nine digits."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def title_of(article: etree._Element) -> str:
    """The title on one line; empty if there is none."""
    for name in ("ArticleTitle", "Book/BookTitle"):
        title = article.find(name)
        if title is not None and (text := _flat(title)):
            return text
    return ""


def abstract_of(article: etree._Element) -> list[str]:
    """The paragraphs, each on one line, with their labels."""
    paragraphs = []
    for paragraph in article.iterfind("Abstract/AbstractText"):
        text = without_copyright(without_telephone_numbers(without_mail_addresses(_flat(paragraph))))
        if "ABSTRACT TRUNCATED" in text:
            text = _TRUNCATED.sub("", text).strip()
        label = _label(paragraph.get("Label", ""))
        if text and label is not None:
            paragraphs.append(label + text)
    return paragraphs


@lru_cache(maxsize=1024)
def _label(stated: str) -> str | None:
    """What to write before a paragraph; ``None`` says to leave the paragraph out."""
    label = tidy_line(stated).rstrip(": ")
    if label.upper() in _CONTACT_LABELS:
        return None
    return f"{label}: " if label and label.upper() != "UNLABELLED" else ""


def _flat(element: etree._Element) -> str:
    return tidy_line("".join(_strings(element)) if len(element) else element.text or "")


def _strings(element: etree._Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if etree.QName(child).localname == "math":
            yield from _math(child)
        else:
            yield from _strings(child)
        yield child.tail or ""


def _math(element: etree._Element) -> Iterator[str]:
    # Between MathML's elements white space is layout; an annotation is the same formula once more.
    if not etree.QName(element).localname.startswith("annotation"):
        yield tidy_line(element.text or "")
        for child in element:
            yield from _math(child)


def is_retracted(citation: etree._Element, article: etree._Element) -> bool:
    """Whether the publisher has withdrawn it: by its type, or by a note on it."""
    kinds = "PublicationType" if article is citation else "PublicationTypeList/PublicationType"
    return any(kind.text == "Retracted Publication" for kind in article.iterfind(kinds)) or any(
        link.get("RefType") in _RETRACTIONS for link in citation.iterfind("CommentsCorrectionsList/CommentsCorrections")
    )
