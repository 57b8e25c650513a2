"""What is wrong with a dataset that a user made or changed by hand is one sentence, for training and preflight."""

from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift.frozen import read_rows, sets_of


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b"", "is not JSON in UTF-8"),
        (b"{", "is not JSON in UTF-8"),
        (b'{"sets": {"\xe9": {}}}', "is not JSON in UTF-8"),
        (b"[]", "was not exported for a recipe yet"),
        (b"{}", "was not exported for a recipe yet"),
        (b'{"sets": ["med"]}', "sets must be a mapping"),
        (b'{"sets": {"med": 3}}', r"sets\.med must be a mapping"),
        (b'{"sets": {"med": {"tokens": 3}}}', r"sets\.med\.stage is missing"),
        (b'{"sets": {"med": {"stage": "sft"}}}', r"sets\.med\.tokens is missing"),
        (b'{"sets": {"med": {"stage": "sft", "tokens": "3"}}}', r"sets\.med\.tokens must be a whole number"),
        (b'{"sets": {"med": {"stage": "sft", "tokens": 3, "hashes": []}}}', r"sets\.med\.hashes must be a mapping"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named_with_what_it_lacks(tmp_path: Path, manifest: bytes, told: str) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(MedllmError, match=told) as caught:
        sets_of(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_sets_of_one_stage_have_the_figures_that_are_needed(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(
        '{"sets": {"a": {"stage": "sft", "tokens": 3}, "b": {"stage": "pretrain"}}}', encoding="utf-8"
    )
    assert list(sets_of(tmp_path, "sft")) == ["a"]
    with pytest.raises(MedllmError, match=r"sets\.a\.max_length is missing"):
        sets_of(tmp_path, "sft", ("tokens", "max_length"))


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (b"no JSON\n", "line 2 is not JSON in UTF-8"),
        (b"\n", "line 2 is not JSON in UTF-8"),
        (b'{"messages": "\xe9"}\n', "line 2 is not JSON in UTF-8"),
        (b"[1]\n", "line 2 is no JSON object"),
        (b"{}", "line 2 has no end"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, second: bytes, told: str) -> None:
    path = tmp_path / "med.jsonl"
    path.write_bytes(b"{}\n" + second)
    with pytest.raises(MedllmError, match=rf"med\.jsonl: {told}"):
        list(read_rows(path))
    path.write_bytes(b"{}\n{}\n")
    assert list(read_rows(path)) == [{}, {}]
