"""Names in Latin letters, only in contact blocks, signatures and the heads and ends of letters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.curation.scrub.finding import Span

_TITLE = r"(?:(?:Drs?|Prof|Professor|Mr|Mrs|Ms|Miss|Doctor|Sister|Nurse|Sir|Dame)\b\.? ?)"
_WORD = (
    r"(?:(?:Ma?c|O['’]|D['’])?[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ]+(?:['’\-][A-ZÀ-ÖØ-Þ]?[a-zà-öø-ÿ]+)*|(?:[A-Z]\.[ \-]?){1,3}(?=[ A-Z]|$)|"
    r"[A-Z](?=[ .][A-Z]))\.?"
)
_PARTICLE = r"(?:(?:van|von|de|der|den|del|della|di|da|dos|la|le|bin|ibn|al|el|ten|zu) ){0,2}"
_CAPITALS = r"[A-Z]{2,20}(?:[ \-][A-Z]{2,20}){1,2}(?![A-Za-z])"
_VALUE = re.compile(
    rf"(?P<title>{_TITLE}{{1,2}})(?P<titled>{_PARTICLE}{_WORD}(?: {_PARTICLE}{_WORD}){{0,3}}|[A-Z]{{3,20}}\b)|"
    rf"(?P<reversed>{_WORD}, {_WORD}(?: {_WORD}){{0,2}})|"
    rf"(?P<plain>{_WORD}(?: {_PARTICLE}{_WORD}){{0,4}})|(?P<capitals>{_CAPITALS})"
)
_DEGREE = re.compile(r",? (?:MD|M\.D\.|PhD|Ph\.D\.|RN|DO|MBBS|MPH|FRCP|FACS)\b\.?")

_CERTAIN = (
    r"(?:(?:Patient|Full|Legal|Contact|Family|Client|Physician|Doctor|Guardian|Parent|Spouse|Caregiver|Cardholder|Mother|Father|First|"
    r"Last|Given|Sur|Maiden)(?:'s)? ?(?:full )?name|Surname|Name of (?:the )?(?:patient|physician|doctor|guardian|contact)|Next of kin|NOK)"
)
_ROLE = (
    r"(?:(?:(?:Emergency|Primary|Study|Site|Public|Scientific|Alternate|Central|Main) )?Contact(?: person| info(?:rmation)?)?|"
    r"(?:Attending|Referring|Treating|Primary care|Consulting|Ordering|Requesting|Responsible|Operating|Reporting|Admitting|Assistant)"
    r"(?: (?:physician|doctor|surgeon|radiologist|MD|consultant|nurse|pathologist|provider))?|Surgeon|Ana?esthesiologist|Anaesthetist|"
    r"Physician|Radiologist|Pathologist|Consultant|PCP|GP|Provider|(?:Electronically |Digitally )?Signed(?: off)?(?: by)?|Signature|"
    r"(?:Dictated|Transcribed|Reviewed|Verified|Reported|Prepared|Referred|Prescribed|Witnessed|Authorized|Seen|Examined) by|Attn|"
    r"Guardian|Ship to|Bill to|Prescriber|Witness|Interpreter|Account holder|Corresponding author|Correspondence(?: to)?)"
)
_COLON = re.compile(r" ?[:：] {0,3}(?:\n {0,3})?")
_LABEL = re.compile(rf"(?<![A-Za-z⟨\-])(?:(?P<certain>{_CERTAIN})|{_ROLE})(?: ?\([^()\d\n]{{1,20}}\))?$", re.IGNORECASE)
_LONGEST_LABEL = 48
# The labels' last words, in front of a colon: a quick look before the long one.
_LABEL_ENDS = (
    "name",
    "contact",
    "person",
    "info",
    "formation",
    "kin",
    "nok",
    "physician",
    "doctor",
    "surgeon",
    "gist",
    "md",
    "ant",
)
_LABEL_ENDS += (
    "nurse",
    "provider",
    "esthetist",
    "pcp",
    "gp",
    "ed",
    "by",
    "off",
    "signature",
    "attn",
    "guardian",
    "to",
    "attending",
)
_LABEL_ENDS += (
    "treating",
    "referring",
    "consulting",
    "ordering",
    "requesting",
    "operating",
    "reporting",
    "admitting",
    "care",
)
_LABEL_ENDS += ("prescriber", "witness", "interpreter", "holder", "author", "ence", ")")
_BY = re.compile(r"(?:[Ss]igned|[Dd]ictated|[Tt]ranscribed) by (?=[A-Z])")
_LETTER = re.compile(
    r"(?<![A-Za-z])(?:Dear|Attn|[Cc]ontact|[Cc]all|[Ww]rite to|[Ee]-?mail|[Aa]sk for|c/o|[Cc]are of|[Aa]ppointment with|[Rr]each) "
    r"(?=(?:Dr|Prof|Professor|Mr|Mrs|Ms|Miss|Doctor|Sister|Nurse)\b)"
)
_CLOSING = re.compile(
    r"(?:(?:Yours )?[Ss]incerely(?: yours)?|(?:[Bb]est|[Kk]ind(?:est)?|[Ww]arm) (?:regards|wishes)|Regards|Yours (?:faithfully|truly)|"
    r"Respectfully(?: yours)?|Cordially),?[ ]{0,3}\n\s{0,4}"
)
_FORM = re.compile(r"(?<![A-Za-z⟨\-] )(?<![A-Za-z⟨\-])(?:Name|NAME|Patient|PATIENT|Pt) ?[:：] {0,3}")
_NEXT_FIELD = re.compile(
    r"[\s,;|/(]{0,4}(?:Age|Sex|Gender|DOB|D\.O\.B|Date of birth|Born|MRN|Phone|Tel|Mobile|E-?mail|Address|Patient ID|Hospital No|Room|Ward|"
    r"[MF]\b|\d{1,3}[ \-]?(?:y|yo|yrs?|years?|M|F)\b|⟨)",
    re.IGNORECASE,
)
# No part of a name: what is behind "Contact:" and is an office or a sentence, and the fields that follow a name.
_OTHER = frozenset(
    "study coordinator research clinical trial trials center centre hospital university department office investigator team service "
    "services support customer direct avoid institute clinic the see please sponsor medical information call central unit desk line "
    "site manager director group foundation ministry health public not none unknown same as above if with for skin eye date history "
    "dermatitis isolation precautions lens lenses tracing allergy website email e-mail phone tel telephone mobile fax address inc ltd "
    "school college ethics committee nurse physician doctor resident staff principal contact us patient relations exposure age male "
    "female sex gender dob blood surgery pain fever normal stable alert admitted complains reports denies therapy board to of and by on "
    "mrn ward room id number name signature signed title role affiliation via during after before when this that there it we you i our "
    "all any no yes time place laboratory lab division section program programme pharmacy radiology pathology oncology cardiology general "
    "emergency poison control national international royal saint memorial children mental secretary administrator recruitment".split()
)
_LETTER_GATES = (
    "Dear ",
    "Attn",
    "ontact ",
    "all ",
    "rite to ",
    "mail ",
    "sk for ",
    "c/o ",
    "are of ",
    "ment with ",
    "each ",
)
_CLOSING_GATES = ("incerely", "egards", "wishes", "aithfully", "truly", "espectfully", "ordially")
_FORM_GATES = ("Name", "NAME", "Patient", "PATIENT", "Pt")
_TITLES = ("Dr", "Prof", "Mr", "Ms", "Miss", "Doctor", "Sister", "Nurse")


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
        if word[0].lower().strip(".") in _OTHER:
            break
        words += not word[0].islower()
        end = begin + word.end()
    if words == 0 or (words == 1 and group != "titled" and not alone):
        return None
    if group == "capitals" and text[end : end + 1] not in ("", "\n", ",", ";", ".", " ", "("):
        return None
    degree = _DEGREE.match(text, end)
    return degree.end() if degree is not None else end


def latin_names(text: str) -> Iterator[Span]:
    """Names behind a label, in the address or at the end of a letter, and in the head of a form."""
    if ":" in text or "：" in text:
        for colon in _COLON.finditer(text):
            before = text[max(0, colon.start() - _LONGEST_LABEL) : colon.start()]
            if before.lower().endswith(_LABEL_ENDS) and (label := _LABEL.search(before)) is not None:
                yield from _at(text, colon.end(), "name.label", alone=label["certain"] is not None)
        if any(gate in text for gate in _FORM_GATES):
            for form in _FORM.finditer(text):
                end = latin_name(text, form.end(), alone=True)
                if end is not None and _NEXT_FIELD.match(text, end):
                    yield Span(form.end(), end, "NAME", "name.form")
    if " by " in text:
        for by in _BY.finditer(text):
            yield from _at(text, by.end(), "name.label", alone=False)
    if any(title in text for title in _TITLES) and any(gate in text for gate in _LETTER_GATES):
        for letter in _LETTER.finditer(text):
            yield from _at(text, letter.end(), "name.letter", alone=False)
    if any(gate in text for gate in _CLOSING_GATES):
        for closing in _CLOSING.finditer(text):
            yield from _at(text, closing.end(), "name.closing", alone=True)


def _at(text: str, start: int, rule: str, *, alone: bool) -> Iterator[Span]:
    if (end := latin_name(text, start, alone=alone)) is not None:
        yield Span(start, end, "NAME", rule)
