"""Addresses in English: a house number with a street, post office boxes, and labelled ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span

_STREET_WORD = r"(?:[A-Z][A-Za-z'’.\-]{1,20}|[NSEW]\.?|(?:of|the|de|du|des|la|le)(?= [A-Z])|\d{1,3}(?:st|nd|rd|th))"
_SURE = "Street|Avenue|Boulevard|Road|Ave|Blvd|Rd"
# Also ends of sentences, doctors, saints and courts of law: an address only with a town, a flat or a postcode.
_UNSURE = (
    "St|Av|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Circle|Cir|Highway|Hwy|Parkway|Pkwy|Close|Crescent|Gardens|"
    "Grove|Row|Walk|Mews|Alley|Trail|Quay|Hill"
)
_FLAT = (
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Floor|Flat|Room|Rm|Bldg|Building)\.? ?#?[A-Z]?\d{0,5}[A-Z]?(?![a-z])|"
    r",? #\d{1,5}[A-Z]?|,? \d{1,2}(?:st|nd|rd|th) [Ff]loor)"
)
_TOWN = r"(?:,\s(?:[A-Z][A-Za-z.'\-]+\s?){1,3}(?<!\s))"
_CODE = (
    r"(?:,?\s(?:[A-Z]{2}|[A-Z][a-z]+),?\s\d{5}(?:-\d{4})?(?!\d)|,?\s[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}(?![A-Za-z\d])|"
    r",?\s(?:[A-Z]{2}\s)?[A-Z]\d[A-Z]\s?\d[A-Z]\d(?!\d)|,?\s[A-Z]{2,3}\s\d{4}(?!\d)|,\s\d{4,6}(?!\d)|"
    r",\s[A-Z]{2}(?![A-Za-z\d]))"
)
_STREET = re.compile(
    rf"\d\d{{0,4}}[A-Z]?(?:[\-–/]\d{{1,5}})?,? (?:{_STREET_WORD} ){{1,4}}?"
    rf"(?:(?:{_SURE})|(?P<unsure>{_UNSURE}))(?![A-Za-z\-])\.?"
    rf"(?: (?:NW|NE|SW|SE|North|South|East|West|N|S|E|W)(?![A-Za-z]))?"
    rf"(?P<flat>{_FLAT}{{0,2}})(?P<town>(?:{_TOWN}{{0,2}}{_CODE})?)"
    r"(?! (?:Traffic|Safety|Accident|Map|Injur|Crash|User|Test|Cancer|Disease|Study|Trial|Analysis|Score|Segment))"
)
_BOX = re.compile(
    r"(?<![A-Za-z])(?:P\.?\s?O\.?|Post(?:al)? Office|Postal|GPO)\s?Box\s(?:No\.?\s)?\d{1,6}"
    rf"(?:{_TOWN}{{0,2}}{_CODE})?",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"(?<![A-Za-z⟨\-])(?<!IP )(?<!mail )(?<!MAC )(?<!web )(?<!ronic )"
    r"(?:(?:(?:[Hh]ome|[Mm]ailing|[Pp]ostal|[Ss]treet|[Rr]esidential|[Pp]atient|[Pp]ermanent|[Cc]urrent|[Bb]illing|"
    r"[Ss]hipping|[Cc]ontact|[Oo]ffice|[Cc]linic)(?:'s)? )?(?:[Aa]ddress|ADDRESS) ?[:：]|"
    r"(?:[Ll]ives|[Ll]iving|[Rr]esid(?:es|ing)|[Rr]esides currently) at)"
    r"\s{0,3}(?P<value>[A-Z0-9#][^;\n|⟨⟩]{5,110})"
)
_FIELD = re.compile(
    r"[,.]?\s*(?:Phone|Tel|Mobile|Cell|Fax|E-?mail|DOB|Date of|MRN|Occupation|Sex|Age|Contact|and\b|with\b|"
    r"who\b|since\b|but\b|has\b)|[,.]?\s+[A-Z][A-Za-z]*(?: [A-Za-z]+){0,2} ?[:：]|\.\s|\.$"
)
_PLACE = re.compile(rf"\d.*(?:(?:{_SURE}|{_UNSURE})(?![A-Za-z])|[A-Z]{{2}} \d{{5}}|, [A-Z])")
_JOINED = frozenset("0123456789.,/%-–=<>")


def street_addresses(text: str) -> Iterator[Span]:
    """Addresses from the house number to the postcode."""
    for match in _STREET.finditer(text):
        before = text[match.start() - 1 : match.start()]
        if before in _JOINED or (before.isascii() and before.isalpha()):
            continue
        if not match["unsure"] or match["flat"] or match["town"]:
            yield Span(*match.span(), "ADDRESS", "address.street")
    if "ox " in text or "OX " in text:
        for match in _BOX.finditer(text):
            yield Span(*match.span(), "ADDRESS", "address.box")
    if "ddress" in text or "DDRESS" in text or "ing at" in text or "es at" in text:
        for match in _LABELLED.finditer(text):
            start, end = match.span("value")
            field = _FIELD.search(text, start, end)
            end = field.start() if field is not None else end
            if _PLACE.search(text, start, end):
                yield Span(start, end, "ADDRESS", "address.labelled")
