"""A study's contacts taken out of its free text: mail addresses, telephone numbers, names of contacts and officials.

The contacts' own module of a study never enters its text; this is for what sponsors wrote into the descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.sources.study_fields import Fields
from medllm_ops.sources.text import tidy_lines, without_mail_addresses

_FEWEST_DIGITS = 7
_FEWEST_DIGITS_ABROAD = 9
_AT_AN_EXTENSION = r"(?:,? ?(?:ext|extension|x)\.? ?\d{1,6})"
_NUMBER = re.compile(rf"(?<![\w.])\+?\(?\d(?:[ ().\-–/]{{0,3}}\d){{6,19}}(?:{_AT_AN_EXTENSION}|(?!\w))", re.IGNORECASE)
_EXTENSION = re.compile(_AT_AN_EXTENSION + "$", re.IGNORECASE)
_CALLS = re.compile(r"\b(?:tel|telephone|phone|fax|mobile|hotline|call)\b[\s.:()a-z]{0,12}$", re.IGNORECASE)
_LOOK_BACK = 30
_ACADEMIC = r"(?:Dr|Prof|Professor|Mr|Mrs|Ms)\b\.? "
_DEGREES = r"(?:(?:, ?(?:M\.?D|Ph\.?D|M\.?Sc|MPH|MBBS|Pharm\.?D|R\.?N)\b\.?)+,?)?"
_MOST_WORDS = 5
# A contact is often a desk, not a person: "Study Director", "Clinical Trials Call Center".
_DESK = re.compile(
    r"\b(?:(?:clinical|medical|global|patient|public|study|trials?|research|recruit\w*|cent(?:er|re)s?|call|contacts?|"
    r"director|manager|monitor|coordinators?|investigators?|sponsor|site|team|office|desk|line|unit|group|department|"
    r"division|hospital|clinic|university|institute|college|school|pharma\w*|therapeutics|bio\w*|laborator\w+|"
    r"oncology|medicine|health|information|inquir\w+|disclosure|transparency|regist\w+|affairs|development|"
    r"operations|services?|support|program\w*)\b|inc\b|ltd\b|llc\b|gmbh\b)",
    re.IGNORECASE,
)


class Contacts:
    """The contacts and officials of a study.

    :param protocol: the protocol section of the study.
    :raises WrongTypeError: if a field has another type than documented.
    """

    def __init__(self, protocol: Fields) -> None:
        people = list(_people(protocol.section("contactsLocationsModule")))
        numbers = {_digits(person.line("phone")) for person in people}
        self._numbers = {number for number in numbers if len(number) >= _FEWEST_DIGITS}
        sponsors = _sponsors(protocol)
        names = {_personal(person.line("name")) for person in people}
        # Longest first: one name may be the end of another.
        self._names = sorted((name for name in names if name not in sponsors), key=lambda name: (-len(name), name))

    def removed_from(self, text: str) -> str:
        """The lines of ``text`` without mail addresses, telephone numbers and the names of persons.

        A telephone number goes when it is one of the study's own, however written, follows a word such as "phone",
        or is international (``+…``). A name goes when it is a person's and no part of a sponsor's name.
        """
        before = text
        text = _NUMBER.sub(lambda found: "" if self._is_telephone(found) else found[0], text)
        for name in self._names:
            if name in text:
                text = re.sub(rf"(?:{_ACADEMIC})*\b{re.escape(name)}\b{_DEGREES}", "", text)
        if "@" in text:
            text = "\n".join(without_mail_addresses(line) for line in text.split("\n"))
        return text if text == before else tidy_lines(text)

    def _is_telephone(self, found: re.Match[str]) -> bool:
        digits = _digits(found[0])
        if len(digits) < _FEWEST_DIGITS:
            return False
        if found[0].startswith("+") and len(digits) >= _FEWEST_DIGITS_ABROAD:
            return True
        if _CALLS.search(found.string, max(0, found.start() - _LOOK_BACK), found.start()):
            return True
        return any(number in digits or number.endswith(digits) for number in self._numbers)


def _people(module: Fields) -> Iterator[Fields]:
    yield from module.sections("centralContacts")
    yield from module.sections("overallOfficials")
    for location in module.sections("locations"):
        yield from location.sections("contacts")


def _digits(number: str) -> str:
    """The digits of a telephone number without its extension and the zeros before an area code."""
    return "".join(filter(str.isdigit, _EXTENSION.sub("", number))).lstrip("0")


def _personal(name: str) -> str:
    """The name without titles and degrees; nothing if it is not a person's as far as one can tell."""
    bare = re.sub(rf"^(?:{_ACADEMIC})*", "", re.split(r"[,(/]", name)[0].strip())
    words = bare.split()
    if not 2 <= len(words) <= _MOST_WORDS or _DESK.search(bare):
        return ""
    return bare if all(word[0].isupper() for word in words) and not any(map(str.isdigit, bare)) else ""


def _sponsors(protocol: Fields) -> str:
    module = protocol.section("sponsorCollaboratorsModule")
    organisations = [
        protocol.section("identificationModule").section("organization").line("fullName"),
        module.section("leadSponsor").line("name"),
        *(collaborator.line("name") for collaborator in module.sections("collaborators")),
    ]
    return "\n".join(organisations)
