"""Telephone numbers: Chinese mobile and fixed lines, North American and international ones, and labelled ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span
from medllm_ops.curation.scrub.surroundings import measured, registered

# Digits that stand together, perhaps with separators: everything below is looked for only where these are.
_CLUSTER = re.compile(r"\d[\d \u00a0\-‐‑‒–—－.()（）/]{5,}\d")
_NOT_BEFORE = r"(?<![A-Za-z0-9_.\-–@/#$￥¥+])"
_NOT_AFTER = r"(?!\d|[A-Za-z_@]|[.\-–/]\d|,\d{3})"
_GAP = r"[ \u00a0\-‐‑‒–—－]?"
_EXTENSION = r"(?:\s?(?:转|转接|分机|分机号|ext\.?|extension|x|#)\s?[:：]?\s?\d{1,6}(?!\d)|[-－]\d{1,4}(?!\d))?"

_CHINA = r"(?:[(（]?(?:[+＋]|00)86[)）]?[ \-－]?|86[ \-－])"
_MOBILE = re.compile(
    rf"{_NOT_BEFORE}{_CHINA}?1[3-9]\d(?:{_GAP}\d{{4}}{_GAP}\d{{4}}|[ \-]?\d{{3}}[ \-]\d{{5}}){_NOT_AFTER}"
)
# Area codes (GB/T has none; the numbering plan of 1998 with its changes): 010, 02x but 026, 03xx to 09xx.
_AREA = r"(?:10|2[0-57-9]|[3-9]\d{2})"
_LANDLINE = re.compile(
    rf"(?<![A-Za-z0-9_.\-–@/#$￥¥])(?:"
    rf"{_CHINA}[(（]?0?{_AREA}[)）]?{_GAP}[2-8]\d{{2,3}}{_GAP}\d{{4}}|"
    rf"[(（]0{_AREA}[)）]\s?[1-9]\d{{2,3}}{_GAP}\d{{4}}|"
    rf"0{_AREA}[ \u00a0\-‐‑‒–—－][1-9]\d{{2,3}}{_GAP}\d{{4}}"
    rf"){_EXTENSION}{_NOT_AFTER}",
    re.IGNORECASE,
)
# Between numbers a slash is none of a ratio or a date; what stands behind the first one may lack its area code.
_ONE = rf"(?:{_CHINA}?1[3-9]\d{_GAP}\d{{4}}{_GAP}\d{{4}}|0{_AREA}[\-－][2-8]\d{{6,7}})"
_SEVERAL = re.compile(rf"{_NOT_BEFORE}{_ONE}(?:\s?[/／]\s?(?:{_ONE}|[2-8]\d{{6,7}}))+{_NOT_AFTER}")
_SERVICE = re.compile(rf"{_NOT_BEFORE}(?:[48]00[-－]\d{{3}}[-－]?\d{{4}}|[48]00[-－]\d{{4}}[-－]\d{{3}}){_NOT_AFTER}")
_AMERICAN = re.compile(
    rf"{_NOT_BEFORE}(?:(?:\+?1[ .\-])?[(（][2-9]\d{{2}}[)）][ \-]?[1-9]\d{{2}}[ .\-]\d{{4}}|"
    rf"\+?1[ .\-][2-9]\d{{2}}[ .\-][1-9]\d{{2}}[ .\-]\d{{4}}|\+1[2-9]\d{{2}}[1-9]\d{{6}}|"
    rf"[2-9]\d{{2}}-[1-9]\d{{2}}-\d{{4}}){_EXTENSION}{_NOT_AFTER}",
    re.IGNORECASE,
)
_BRITISH = re.compile(rf"{_NOT_BEFORE}0(?:1\d{{3}}|11\d|1\d1|20|7\d{{3}}) \d{{3,4}} ?\d{{3,4}}{_NOT_AFTER}")
_EXCHANGE = re.compile(rf"{_NOT_BEFORE}[2-8]\d{{6,7}}\s?转\s?\d{{1,6}}(?!\d)")
_INTERNATIONAL = re.compile(
    r"(?<![A-Za-z0-9_.@/#\)])(?:[+＋]|(?<![\d\-])00(?=\d{2}[ \-]))"
    r"(?P<digits>[1-9]\d{0,2}(?:[ \u00a0\-‐–.]?[(（]?\d{1,5}[)）]?){2,7})"
    rf"{_EXTENSION}{_NOT_AFTER}",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:电话|手机|座机|热线|传真|联系方式|移动电话|致电|拨打|電話|手機|傳真"
    r"|(?<![A-Za-z⟨.])(?:tele?phone|phone|ph|tel|mobile|cell ?(?:phone)?|fax|facsimile|hotline|helpline|pager|"
    r"whatsapp|(?:call|ring|dial|text)(?: us| me)?(?: at| on)?|contact (?:no|number)|t[ée]l(?:[ée]phone)?|tel[ée]fono?)"
    r"(?![A-Za-z]))"
    r"(?:\s?[(（][^\d\n()（）]{1,12}[)）]|"
    r"\s?[/／、&及或和](?:电话|手机|传真|微信|phone|mobile|fax|whatsapp|cell)(?:号码?|同号)?)?"
    r"(?:\s{0,2}(?:号码|号|numbers?|nos?\.?|#|(?:is|was|at|on)(?![A-Za-z])))?\.?[\"”']?\s{0,2}"
    r"(?:[:：=|｜]|是|为|拨打)?\s{0,3}[\"“']?$",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    rf"[(（]?(?:[+＋]\s?)?[(（]?\d(?:[ \u00a0\-‐‑‒–—－.]?[()（）]?[ ]?\d){{5,14}}{_EXTENSION}(?!\d|[A-Za-z]|\.\d)",
    re.IGNORECASE,
)
# More numbers after a labelled one: "电话：65123456、65123457", "Tel 555 0123 / 555 0124".
_FURTHER = re.compile(r"\s?[/／、,，;；或和]\s?")
_LABEL_GATES = (
    "电话", "手机", "座机", "热线", "传真", "联系方式", "致电", "拨打", "電話", "手機", "傳真", "ph", "tel", "tél",
    "mobile", "cell", "fax", "facsimile", "hotline", "helpline", "pager", "whatsapp", "call", "ring", "dial", "text",
    "contact n",
)  # fmt: skip
_LONGEST_LABEL = 40
_GROUPS = re.compile(r"\d+")
_GROUP_OF_THREE = re.compile(r"\d{3}")
_DATES = re.compile(
    r"(?:19|20)\d{2}\.(?:0\d|1[0-2])\.\d{3}(?!\d)|"
    r"(?:19|20)\d{2}\s?[\-–—./年]?\s?(?:0?[1-9]|1[0-2])\s?[\-–—./月]?\s?(?:[0-2]?\d|3[01])(?!\d)"
)
_YEARS = re.compile(r"(?:19|20)\d{2}\s?[\-–—]\s?(?:19|20)\d{2}(?!\d)")


def phones(text: str) -> Iterator[Span]:
    """Telephone numbers, labelled or of a shape that hardly any count, code or result has."""
    for cluster in _CLUSTER.finditer(text):
        start, end = cluster.span()
        while start and text[start - 1] in "+＋(（":
            start -= 1
        yield from _labelled(text, start)
        yield from _unlabelled(text, start, end)


def _labelled(text: str, place: int) -> Iterator[Span]:
    window = text[max(0, place - _LONGEST_LABEL) : place]
    lowered = window.lower()
    if not any(gate in lowered for gate in _LABEL_GATES) or _LABEL.search(window) is None:
        return
    while (number := _LABELLED.match(text, place)) is not None:
        digits = sum(character.isdecimal() for character in number[0])
        dated = _DATES.match(number[0]) or _YEARS.match(number[0])
        if digits < 7 or dated or measured(text, number.end(), number.end()):
            break
        yield Span(*number.span(), "PHONE", "phone.labelled")
        further = _FURTHER.match(text, number.end())
        if further is None:
            break
        place = further.end()


def _unlabelled(text: str, start: int, end: int) -> Iterator[Span]:
    for rule, pattern in (
        ("phone.several", _SEVERAL),
        ("phone.mobile", _MOBILE),
        ("phone.landline", _LANDLINE),
        ("phone.service", _SERVICE),
        ("phone.american", _AMERICAN),
        ("phone.british", _BRITISH),
        ("phone.exchange", _EXCHANGE),
        ("phone.international", _INTERNATIONAL),
    ):
        # A match may end behind the cluster (an extension), but not begin there: the next cluster has its own turn.
        for match in pattern.finditer(text, start, end + 24):
            if match.start() >= end or registered(text, match.start()) or measured(text, match.start(), match.end()):
                continue
            if rule == "phone.international" and not _possible(match["digits"], match[0][0] in "+＋"):
                continue
            yield Span(*match.span(), "PHONE", rule)


def _possible(digits: str, plus: bool) -> bool:
    """Whether digits after a plus or 00 are a number of a country's plan; "+12345678" is a change.

    After a plus and in groups, the length of the country's numbers is enough: invented ones are given to nobody.
    """
    import phonenumbers

    if not re.search(r"\d[ \u00a0\-‐–.(（]", digits) and len(digits) < 11:
        return False
    try:
        number = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return False
    grouped = plus and len(_GROUPS.findall(digits)) > 2 and _GROUP_OF_THREE.search(digits) is not None
    if not grouped:
        return bool(phonenumbers.is_valid_number(number))
    possible = phonenumbers.is_possible_number_with_reason(number)
    return bool(possible == phonenumbers.ValidationResult.IS_POSSIBLE)
