"""The text of one ClinicalTrials.gov study (API v2), section by section."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medllm_ops.sources.study_contacts import Contacts
from medllm_ops.sources.study_fields import Fields


def has_description(protocol: Fields) -> bool:
    """Whether there is anything to read beside titles and lists."""
    description = protocol.section("descriptionModule")
    return bool(description.string("briefSummary") or description.string("detailedDescription"))


def study_text(protocol: Fields) -> tuple[str, str]:
    """The title (the official one, or else the brief one), and the text: title and sections, each on its own lines.

    :raises WrongTypeError: if a field has another type than documented.
    """
    identification = protocol.section("identificationModule")
    title = identification.line("officialTitle") or identification.line("briefTitle")
    text = "\n".join(line for line in (title, *_sections(protocol)) if line)
    contacts = Contacts(protocol)
    return contacts.removed_from(title), contacts.removed_from(text)


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
