"""Texts that a person is shown: personal data in them are marks, whatever the settings of scrubbing say."""

from __future__ import annotations

from collections import Counter
from typing import Final

from medllm_ops.curation.clean.clean import clean_text
from medllm_ops.curation.clean.settings import CleanSettings
from medllm_ops.curation.scrub import mark, scrub_text
from medllm_ops.curation.scrub.settings import EVERYTHING
from medllm_ops.curation.scrub.step import spans

_CLEANING: Final = CleanSettings()


def shown(text: str) -> str:
    """A text as it may be shown.

    What is plain in it once it is cleaned is marked as well: a number behind ``Phone:</b>`` has its label before it.
    """
    cleaned = clean_text(text, True, _CLEANING, Counter())
    values = {cleaned[span.start : span.end]: mark(span.kind) for span in spans(cleaned, EVERYTHING)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, values[value])
    return scrub_text(text, EVERYTHING)[0]
