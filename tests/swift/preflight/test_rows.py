from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.swift.preflight.rows import Rows, batches, changed_files, padded, read_rows, steps_of
from medllm_ops.swift.recipe import StageRecipe

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=300)


def _rows(lengths: list[int]) -> Rows:
    return Rows(np.array(lengths, np.int64), 1, 1, 512)


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "gpus", "epochs", "steps"),
    [
        (100, 4, 1, 1, 1.0, 25),
        (101, 4, 1, 1, 1.0, 26),
        (101, 4, 8, 1, 1.0, 4),
        (101, 4, 8, 1, 2.5, 10),
        (101, 4, 1, 2, 3.0, 39),
        (105, 4, 1, 2, 1.0, 14),
        (97, 4, 1, 2, 1.0, 13),
        (3, 4, 16, 8, 1.0, 1),
    ],
)
def test_steps_are_those_of_the_trainer(
    rows: int, batch: int, accumulation: int, gpus: int, epochs: float, steps: int
) -> None:
    stage = StageRecipe(
        num_train_epochs=epochs, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation
    )
    assert steps_of(stage, batches(_rows([10] * rows), stage, gpus)) == steps


@given(LENGTHS, st.integers(1, 16))
def test_padding_lies_between_none_and_the_longest(lengths: list[int], batch: int) -> None:
    values = np.array(lengths, np.int64)
    for grouped in (False, True):
        assert sum(lengths) <= padded(values, batch, grouped) <= len(lengths) * max(lengths)
    assert padded(values, 1, False) == sum(lengths)


def test_grouped_rows_waste_less() -> None:
    lengths = np.random.default_rng(1).integers(1, 1000, 2000)
    assert padded(lengths, 8, True) < 0.75 * padded(lengths, 8, False)


@given(LENGTHS)
def test_packed_sequences_hold_every_token(lengths: list[int]) -> None:
    stage = StageRecipe(num_train_epochs=1, packing=True, attn_impl="flash_attn", max_length=512)
    found = batches(_rows(lengths), stage, 1)
    assert -(-sum(lengths) // 512) <= found.rows <= len(lengths)
    assert found.tokens == sum(lengths)
    assert found.rows <= 2 * sum(lengths) / 512 + 1


def test_packing_is_as_tight_as_binpacking() -> None:
    binpacking = pytest.importorskip("binpacking")
    lengths = np.random.default_rng(2).integers(20, 400, 1000).tolist()
    stage = StageRecipe(num_train_epochs=1, packing=True, attn_impl="flash_attn", max_length=512)
    theirs = len(binpacking.to_constant_volume(list(enumerate(lengths)), 512, weight_pos=1))
    assert batches(_rows(lengths), stage, 1).rows == pytest.approx(theirs, rel=0.02)


def test_tokens_are_shared_out_by_text_and_none_is_lost(make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(
        pubmed=("pretrain", [100] * 50 + [1000], 2000), docx=("pretrain", [10] * 5, 40), alpaca=("sft", [50] * 4, 80)
    )
    rows = read_rows(dataset, "pretrain", StageRecipe(max_steps=1))
    assert (rows.count, rows.val_rows) == (56, 6)
    assert rows.tokens == pytest.approx(2040, abs=2)
    assert rows.longest == pytest.approx(333, abs=2)
    assert read_rows(dataset, "pretrain", StageRecipe(max_steps=1, eval_rows=1)).val_rows == 2
    with pytest.raises(MedllmError, match="no set for stage self_cognition"):
        read_rows(dataset, "self_cognition", StageRecipe(max_steps=1))


def test_no_row_is_longer_than_the_export_allows(make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(pubmed=("pretrain", [10] * 50 + [100_000], 1500))
    rows = read_rows(dataset, "pretrain", StageRecipe(max_steps=1))
    assert rows.longest <= 512
    assert rows.tokens == pytest.approx(1500, rel=0.02)


def test_changed_missing_and_unhashed_files_are_named(make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(pubmed=("pretrain", [100] * 5, 100))
    assert changed_files(dataset) == []
    with (dataset / "train" / "pubmed.jsonl").open("a") as file:
        file.write("{}\n")
    (dataset / "val" / "pubmed.jsonl").unlink()
    changed, missing = changed_files(dataset)
    assert "train/pubmed.jsonl was changed" in changed
    assert "val/pubmed.jsonl is missing" in missing


def test_a_dataset_that_no_recipe_was_applied_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"no manifest\.json"):
        changed_files(tmp_path)
    write_json(tmp_path / "manifest.json", {"sources": {}})
    with pytest.raises(MedllmError, match="not exported for a recipe"):
        changed_files(tmp_path)


def test_rows_without_texts_are_named(make_dataset: Callable[..., Path]) -> None:
    dataset = make_dataset(pubmed=("pretrain", [100] * 5, 100))
    with (dataset / "train" / "pubmed.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "of another form"}\n')
    with pytest.raises(MedllmError, match=r"pubmed\.jsonl: line 6 has no messages with texts"):
        read_rows(dataset, "pretrain", StageRecipe(max_steps=1))
