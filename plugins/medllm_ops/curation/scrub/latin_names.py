"""Names in Latin letters, only in contact blocks, signatures and the heads and ends of letters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import MARK, Span
from medllm_ops.curation.scrub.word_lists import word_list

_TITLE = r"(?:(?:Drs?|Prof|Professor|Mr|Mrs|Ms|Miss|Doctor|Sister|Nurse|Sir|Dame)\b\.? ?)"
_WORD = (
    r"(?:(?:Ma?c|O['’]|D['’])?[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ]+(?:['’\-][A-ZÀ-ÖØ-Þ]?[a-zà-öø-ÿ]+)*|"
    r"[A-Z]\.(?:[ \-]?[A-Z]\.){0,2}|[A-Z](?= [A-Z]))\.?"
)
_NEXT = r"(?: |(?<=\.))"
_PARTICLE = r"(?:(?:van|von|de|der|den|del|della|di|da|dos|la|le|bin|ibn|al|el|ten|zu) ){0,2}"
_CAPITALS = r"[A-Z]{2,20}(?:[ \-][A-Z]{2,20}){1,2}(?![A-Za-z])"
_VALUE = re.compile(
    rf"(?P<title>{_TITLE}{{1,2}})(?P<titled>{_PARTICLE}{_WORD}(?:{_NEXT}{_PARTICLE}{_WORD}){{0,3}}|[A-Z]{{3,20}}\b)|"
    rf"(?P<reversed>{_WORD}, {_WORD}(?:{_NEXT}{_WORD}){{0,2}}|[A-Z]{{2,20}}, [A-Z]{{2,20}}(?![A-Za-z]))|"
    rf"(?P<plain>{_WORD}(?:{_NEXT}{_PARTICLE}{_WORD}){{0,4}})|(?P<capitals>{_CAPITALS})"
)
_DEGREE = re.compile(r",? (?:M\.D\.|Ph\.D\.|R\.N\.|(?:MD|PhD|RN|DO|MBBS|MPH|FRCP|FACS)\b)")
# A full stop behind a longer word ends the sentence, and the name: J. B. Martinez. Weight: 65 kg.
_LONGEST_ABBREVIATION = 4
# No part of a name: an office or a sentence behind "Contact:", and the fields that follow a name.
_OTHER = frozenset(word_list("no_latin_names"))

_CERTAIN = (
    r"(?:(?:Patient|Full|Legal|Contact|Family|Client|Physician|Doctor|Guardian|Parent|Spouse|Caregiver|Cardholder|"
    r"Mother|Father|First|Last|Given|Sur|Maiden)(?:'s)? ?(?:full )?name|Surname|"
    r"Name of (?:the )?(?:patient|physician|doctor|guardian|contact)|Next of kin|NOK)"
)
_ROLE = (
    r"(?:(?:(?:Emergency|Primary|Study|Site|Public|Scientific|Alternate|Central|Main) )?"
    r"Contact(?: person| info(?:rmation)?)?|"
    r"(?:Attending|Referring|Treating|Primary care|Consulting|Ordering|Requesting|Responsible|Operating|Reporting|"
    r"Admitting|Assistant)(?: (?:physician|doctor|surgeon|radiologist|MD|consultant|nurse|pathologist|provider))?|"
    r"Surgeon|Ana?esthesiologist|Anaesthetist|Physician|Radiologist|Pathologist|Consultant|PCP|GP|Provider|"
    r"(?:Electronically |Digitally )?Signed(?: off)?(?: by)?|Signature|"
    r"(?:Dictated|Transcribed|Reviewed|Verified|Reported|Prepared|Referred|Prescribed|Witnessed|Authorized|Seen|"
    r"Examined) by|Attn|Guardian|Ship to|Bill to|Prescriber|Witness|Interpreter|Account holder|"
    r"Corresponding author|Correspondence(?: to)?)"
)
# Labels are looked for behind colons; of the few that need none, by their last word.
_COLON = re.compile(r"[:：] {0,3}(?:[\"“']|\n {0,3})?")
_LABEL = re.compile(rf"(?<![A-Za-z⟨\-])(?:(?P<certain>{_CERTAIN})|{_ROLE})(?: ?\([^()\d\n]{{1,20}}\))?$", re.IGNORECASE)
_LONGEST_LABEL = 48
_LABEL_ENDS = word_list("latin_label_ends")
_BY = re.compile(r" by (?=[A-Z])")
_BY_LABEL = re.compile(r"(?:signed|dictated|transcribed)$", re.IGNORECASE)
_LETTER = re.compile(
    r"(?:Dear|Attn|[Cc]ontact|[Cc]all|[Ww]rite to|[Ee]-?mail|[Aa]sk for|c/o|[Cc]are of|[Aa]ppointment with|[Rr]each|"
    r"(?:[Ff]ax |FAX )?(?:[Tt]o|TO) ?:|(?:From|FROM|FAO) ?:) $"
)
_TITLED = re.compile(r"(?:Dr|Prof|Mr|Mrs|Ms|Miss|Doctor|Sister|Nurse)[.\sa-z]")
_TITLES = ("Dr", "Prof", "Mr", "Ms", "Miss", "Doctor", "Sister", "Nurse")
_CLOSING = re.compile(
    r"(?:(?:Yours )?[Ss]incerely(?: yours)?|(?:[Bb]est|[Kk]ind(?:est)?|[Ww]arm) (?:regards|wishes)|Regards|"
    r"Yours (?:faithfully|truly)|Respectfully(?: yours)?|Cordially),?[ ]{0,3}\n\s{0,4}"
)
_CLOSING_GATES = ("incerely", "egards", "wishes", "aithfully", "truly", "espectfully", "ordially")
_FORM = re.compile(r"(?:(?<![A-Za-z⟨\-] )(?<![A-Za-z⟨\-])(?:Name|NAME|Patient|PATIENT|Pt)|[\"']name[\"'])$")
# Characters within which a mark makes a contact block of a form.
_NEAR = 80
_QUOTES = "\"”'"
_NEXT_FIELD = re.compile(
    r"[\s,;|/(\"”']{0,6}(?:Age|Sex|Gender|DOB|D\.O\.B|Date of birth|Born|MRN|Phone|Tel|Mobile|E-?mail|Address|"
    r"Patient ID|SSN|Hospital No|Room|Ward|[MF]\b|\d{1,3}[ \-]?(?:y|yo|yrs?|years?|M|F)\b|⟨)",
    re.IGNORECASE,
)


def latin_name(text: str, start: int, *, alone: bool) -> int | None:
    """The end of a name at ``start``, or None.

    :param alone: whether one word without a title is enough.
    """
    match = _VALUE.match(text, start, start + 80)
    if match is None:
        return None
    group = str(match.lastgroup)
    end = begin = match.start(group)
    words = 0
    for word in re.finditer(r"[^\s,]+", match[group]):
        if word[0].lower().strip(".") in _OTHER or text[begin + word.end() :].startswith((":", "：")):
            break
        words += not word[0].islower()
        end = begin + word.end()
        if word[0].endswith(".") and len(word[0]) > _LONGEST_ABBREVIATION:
            break
    if words == 0 or (words == 1 and group != "titled" and not alone):
        return None
    degree = _DEGREE.match(text, end)
    return degree.end() if degree is not None else end


def latin_label(before: str) -> bool | None:
    """Whether the text in front of a colon ends on a label; if so, whether one word is enough behind it."""
    label = _LABEL.search(before) if before.lower().endswith(_LABEL_ENDS) else None
    return None if label is None else label["certain"] is not None


def latin_names(text: str) -> Iterator[Span]:
    """Names behind a label, in the address or at the end of a letter, and in the head of a form."""
    if ":" in text or "：" in text:
        for colon in _COLON.finditer(text):
            before = text[max(0, colon.start() - _LONGEST_LABEL) : colon.start()].rstrip(" ")
            if before.rstrip(_QUOTES).lower().endswith(_LABEL_ENDS):
                yield from _behind(text, colon.end(), before)
    if " by " in text:
        for by in _BY.finditer(text):
            if _BY_LABEL.search(text[max(0, by.start() - 14) : by.start()]):
                yield from _at(text, by.end(), "name.label", alone=False)
    if any(title in text for title in _TITLES):
        for titled in _TITLED.finditer(text):
            if _LETTER.search(text[max(0, titled.start() - 18) : titled.start()]):
                yield from _at(text, titled.start(), "name.letter", alone=False)
    if any(gate in text for gate in _CLOSING_GATES):
        for closing in _CLOSING.finditer(text):
            yield from _at(text, closing.end(), "name.closing", alone=True)


def _behind(text: str, start: int, before: str) -> Iterator[Span]:
    """A name at ``start`` behind a colon, if what is ``before`` the colon is a label."""
    alone = latin_label(before.rstrip(_QUOTES))
    if alone is not None:
        yield from _at(text, start, "name.label", alone=alone)
    elif _FORM.search(before):
        end = latin_name(text, start, alone=True)
        if end is not None and _NEXT_FIELD.match(text, end):
            yield Span(start, end, "NAME", "name.form")
        elif MARK.search(text, max(0, start - _NEAR), start):
            # The last field of a form, of which an earlier round marked another one.
            yield from _at(text, start, "name.form", alone=False)


def _at(text: str, start: int, rule: str, *, alone: bool) -> Iterator[Span]:
    if (end := latin_name(text, start, alone=alone)) is not None:
        yield Span(start, end, "NAME", rule)
