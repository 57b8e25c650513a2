"""Scrub personal data out of a row: typed marks such as ``⟨PHONE⟩`` take its place; see docs/curation/scrub.md."""

from medllm_ops.curation.scrub.finding import KINDS, MARK, Kind, mark
from medllm_ops.curation.scrub.review import ReviewSample
from medllm_ops.curation.scrub.settings import ScrubSettings
from medllm_ops.curation.scrub.step import MOSTLY_PERSONAL, Finding, scrub, scrub_for_review, scrub_text

__all__ = [
    "KINDS",
    "MARK",
    "MOSTLY_PERSONAL",
    "Finding",
    "Kind",
    "ReviewSample",
    "ScrubSettings",
    "mark",
    "scrub",
    "scrub_for_review",
    "scrub_text",
]
