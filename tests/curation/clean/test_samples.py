"""Cleaning on the real sample files: good records are not thrown away, and nothing is changed without need."""

from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.curation.clean import CleanSettings, clean
from medllm_ops.records import Deletion, Reject, record_to_row
from medllm_ops.sources import get_source


@pytest.mark.parametrize(
    ("source", "pattern", "fewest", "dropped", "reasons"),
    [
        ("tcm_books", "tcm_books/*", 8000, 0, set()),
        ("clinicaltrials", "clinicaltrials/**/*.json", 30, 0, set()),
        # One record, in nine states, is lorem ipsum.
        ("pubmed", "pubmed/**/*.xml", 80, 1, {"nothing left of the text", "too short"}),
        ("conversations", "sft/medical_sft_1K_format.jsonl", 1000, 0, set()),
        # Each has an answer that says a paragraph, or all of it, twice.
        ("disc_medllm", "sft/disc_medllm_test_examples.jsonl", 160, 5, {"repeats itself"}),
        ("preference", "sft/dpo_zh_500.jsonl", 500, 0, set()),
    ],
)
def test_what_is_dropped_of_each_source(
    samples: Path, source: str, pattern: str, fewest: int, dropped: int, reasons: set[str]
) -> None:
    settings = CleanSettings()
    left_out: dict[str, str] = {}
    rows = 0
    for path in sorted(samples.glob(pattern)):
        for item in get_source(source).parse(path):
            if isinstance(item, Reject | Deletion):
                continue
            rows += 1
            outcome = clean(record_to_row(item), settings)
            if outcome.row is None:
                left_out[item.id] = outcome.reason
            else:
                assert clean(outcome.row, settings).row is outcome.row
    assert rows >= fewest
    assert len(left_out) == dropped, left_out
    assert set(left_out.values()) <= reasons
