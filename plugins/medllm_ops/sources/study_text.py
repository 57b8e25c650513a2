"""The text of one ClinicalTrials.gov study (API v2), section by section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from medllm_ops.sources.text import tidy_line, tidy_lines, without_mail_addresses

# CommonMark: a backslash before any ASCII punctuation stands for the punctuation itself.
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_SHORTEST_PHONE = 7


class WrongTypeError(ValueError):
    """A field of a study has another JSON type than the API documents."""


class Fields:
    """A JSON object of a study, read by the types that the API documents; what is missing or null is empty."""

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise WrongTypeError(f"{name} is {_type_name(value)} where an object belongs")
        self._value = value
        self._name = name

    def string(self, key: str) -> str:
        """The plain text of a field, Markdown's escapes undone, line by line."""
        return _plain(self._get(key, str, ""), key)

    def line(self, key: str) -> str:
        """The plain text of a field as one line."""
        return tidy_line(self.string(key))

    def lines(self, key: str) -> list[str]:
        """The plain texts of a list field, empty ones left out."""
        lines = (tidy_line(_plain(item, key)) for item in self._get(key, list, []))
        return [line for line in lines if line]

    def section(self, key: str) -> Fields:
        """The object in a field."""
        return Fields(self._get(key, dict, {}), key)

    def sections(self, key: str) -> list[Fields]:
        """The objects in a list field."""
        return [Fields(item, key) for item in self._get(key, list, [])]

    def _get(self, key: str, kind: type, empty: Any) -> Any:
        value = self._value.get(key)
        if value is None:
            return empty
        if not isinstance(value, kind):
            raise WrongTypeError(f"{key} is {_type_name(value)} where {_KINDS[kind]} belongs")
        return value


_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "a truth value", int: "a number", float: "a number"}


def _type_name(value: Any) -> str:
    return _KINDS.get(type(value), "null")


def _plain(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise WrongTypeError(f"{name} holds {_type_name(value)} where a string belongs")
    return tidy_lines(_ESCAPE.sub(r"\1", value))


def title_of(protocol: Fields) -> str:
    """The official title, or the brief one where there is none."""
    identification = protocol.section("identificationModule")
    return identification.line("officialTitle") or identification.line("briefTitle")


def has_description(protocol: Fields) -> bool:
    """Whether there is anything to read beside titles and lists."""
    description = protocol.section("descriptionModule")
    return bool(description.string("briefSummary") or description.string("detailedDescription"))


def study_text(protocol: Fields) -> str:
    """Title and sections, each section beginning on a line of its own.

    :raises WrongTypeError: if a field has another type than documented.
    """
    text = "\n".join([line for line in (title_of(protocol), *_sections(protocol)) if line])
    return _without_contacts(text, protocol.section("contactsLocationsModule"))


def _sections(protocol: Fields) -> Iterator[str]:
    description = protocol.section("descriptionModule")
    yield _labelled("Brief summary", description.string("briefSummary"))
    yield _labelled("Detailed description", description.string("detailedDescription"))
    conditions = protocol.section("conditionsModule")
    yield _labelled("Conditions", "; ".join(conditions.lines("conditions")))
    yield _labelled("Keywords", "; ".join(conditions.lines("keywords")))
    yield from _design(protocol.section("designModule"))
    arms = protocol.section("armsInterventionsModule")
    yield _listed("Arms", (_entry(arm, "label", "type", "description") for arm in arms.sections("armGroups")))
    interventions = arms.sections("interventions")
    yield _listed("Interventions", (_entry(item, "name", "type", "description") for item in interventions))
    outcomes = protocol.section("outcomesModule")
    for label, key in (
        ("Primary outcomes", "primaryOutcomes"),
        ("Secondary outcomes", "secondaryOutcomes"),
        ("Other outcomes", "otherOutcomes"),
    ):
        yield _listed(label, (_outcome(item) for item in outcomes.sections(key)))
    yield from _eligibility(protocol.section("eligibilityModule"))


def _design(design: Fields) -> Iterator[str]:
    yield _labelled("Study type", _words(design.line("studyType")))
    phases = [phase for phase in map(_words, design.lines("phases")) if phase]
    yield _labelled("Phase", ", ".join(re.sub(r"(?<=ase)(?=\d)", " ", phase) for phase in phases))
    info = design.section("designInfo")
    yield _labelled("Allocation", _words(info.line("allocation")))
    yield _labelled("Model", _words(info.line("interventionModel") or info.line("observationalModel")))
    yield _labelled("Masking", _words(info.section("maskingInfo").line("masking")))
    yield _labelled("Primary purpose", _words(info.line("primaryPurpose")))


def _eligibility(eligibility: Fields) -> Iterator[str]:
    yield _labelled("Eligibility criteria", eligibility.string("eligibilityCriteria"))
    yield _labelled("Study population", eligibility.string("studyPopulation"))
    yield _labelled("Sex", _words(eligibility.line("sex")))
    yield _labelled("Minimum age", eligibility.line("minimumAge"))
    yield _labelled("Maximum age", eligibility.line("maximumAge"))


def _labelled(label: str, text: str) -> str:
    separator = "\n" if "\n" in text else " "
    return f"{label}:{separator}{text}" if text else ""


def _listed(label: str, entries: Iterator[str]) -> str:
    lines = [f"* {entry}" for entry in entries if entry]
    return "\n".join([f"{label}:", *lines]) if lines else ""


def _entry(fields: Fields, name: str, kind: str, text: str) -> str:
    head = " ".join(part for part in (fields.line(name), f"({_words(fields.line(kind))})") if part not in ("", "()"))
    return ": ".join(part for part in (head, fields.line(text)) if part)


def _outcome(fields: Fields) -> str:
    time_frame = fields.line("timeFrame")
    head = fields.line("measure") + (f" [{time_frame}]" if time_frame else "")
    return ": ".join(part for part in (head.strip(), fields.line("description")) if part)


def _words(code: str) -> str:
    """A code of the API as words: ``ACTIVE_COMPARATOR`` is ``Active comparator``, ``NA`` (not applicable) nothing."""
    return "" if code == "NA" else code.replace("_", " ").capitalize()


def _without_contacts(text: str, contacts: Fields) -> str:
    """Take e-mail addresses and the telephone numbers of the study's own contacts out of free text."""
    people = contacts.sections("centralContacts")
    for location in contacts.sections("locations"):
        people += location.sections("contacts")
    # Longest first: one number may be the end of another.
    for phone in sorted({person.line("phone") for person in people}, key=lambda number: (-len(number), number)):
        if sum(map(str.isdigit, phone)) >= _SHORTEST_PHONE:
            text = text.replace(phone, "")
    if "@" in text:
        text = "\n".join(without_mail_addresses(line) for line in text.split("\n"))
    return tidy_lines(text)
