"""Presidio's recognisers where they know more than we do: IBANs by country and American social security numbers.

They are used by themselves: no analyser, no language model, nothing fetched. Presidio imports spaCy (and torch, where
it is installed), some hundred MB: so it is imported when a number of the right shape turns up, and not before. It is
shown that number alone: to its patterns a Han character beside a number is a letter that belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from medllm_ops.curation.scrub.finding import Span
from medllm_ops.curation.scrub.surroundings import measured, registered
from medllm_ops.errors import MedllmError

_IBAN = re.compile(r"\d\d(?:[ \-]?[A-Z\d]{4}){2,7}(?:[ \-]?[A-Z\d]{1,3})?(?![A-Za-z\d])")
_SOCIAL_SECURITY = re.compile(r"\d\d\d-\d{2}-\d{4}(?![A-Za-z\d]|[.\-/]\d)")
_COUNTRY = re.compile(r"(?:^|[^A-Za-z\d])[A-Z]{2}$")
_JOINED = frozenset("0123456789.-/_")


@cache
def _recognisers() -> dict[str, Any]:
    try:
        from presidio_analyzer.predefined_recognizers import IbanRecognizer, UsSsnRecognizer
    except ImportError as error:
        raise MedllmError(
            f"scrubbing asks presidio, which cannot be imported ({error}): install presidio-analyzer, "
            "or set presidio: false in the section scrub of curation.yaml"
        ) from error
    return {"IBAN_CODE": IbanRecognizer(), "US_SSN": UsSsnRecognizer()}


def bank_and_social_security(text: str) -> Iterator[Span]:
    """International bank account numbers and American social security numbers, without a label.

    :raises MedllmError: if presidio is asked and is not installed.
    """
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        if start < 0 or not _COUNTRY.search(text[max(0, start - 1) : match.start()]):
            continue
        for found in _recognisers()["IBAN_CODE"].analyze(text[start : match.end()], ["IBAN_CODE"]):
            yield Span(start + found.start, start + found.end, "ACCOUNT", "presidio.iban")
    for match in _SOCIAL_SECURITY.finditer(text):
        start = match.start()
        if start and (text[start - 1] in _JOINED or (text[start - 1].isascii() and text[start - 1].isalpha())):
            continue
        if registered(text, start) or measured(text, *match.span()):
            continue
        for found in _recognisers()["US_SSN"].analyze(match[0], ["US_SSN"]):
            # The social security administration never gave out a number that begins with 9.
            if found.score >= 0.5 and match[0][0] != "9":
                yield Span(start + found.start, start + found.end, "ID", "presidio.social_security")
