"""The stage dpo with real ms-swift on a tiny model: each method, and the merge of what it trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.local import LocalPlace
from medllm_ops.datasets.pairs import labelled
from medllm_ops.files import read_json_lines, write_json_lines
from medllm_ops.sources.preference import convert
from medllm_ops.swift.adopt import adopt
from medllm_ops.swift.checkpoints import is_whole, last_whole_checkpoint
from medllm_ops.swift.merge import merge
from medllm_ops.swift.merge_request import MergeRequest
from medllm_ops.swift.recipe import PreferenceRecipe
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import TrainResult, train
from preferences import pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOLERANCE = 1e-4
needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None, reason="DeepSpeed compiles for processors: apt install g++"
)
# DeepSpeed's communication has to be started early where there is no GPU.
START = """
import os
if "RANK" in os.environ:
    import deepspeed
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
"""
SETTINGS: dict[str, Any] = {
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "max_steps": 4,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 2,
    "eval_steps": 2,
    "save_steps": 2,
    "logging_steps": 1,
    "max_length": 512,
    "gradient_checkpointing": False,
}


@pytest.fixture
def request_(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    """An alignment by dpo; the other methods replace its recipe and, where they need it, its rows."""
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    for side, numbers in (("train", range(8)), ("val", range(8, 12))):
        rows = []
        for number in numbers:
            record = convert(pair(number))
            messages = [{"role": message.role, "content": message.content} for message in record.messages]
            rows.append({"id": record.id, "messages": messages, "rejected_response": record.rejected_response})
        write_json_lines(tmp_path / f"{side}.jsonl", rows)
    return TrainRequest(
        stage="dpo",
        recipe=PreferenceRecipe(**SETTINGS),
        model_dir=tiny_model,
        model_type="qwen2",
        template="qwen2_5",
        train_files=(tmp_path / "train.jsonl",),
        val_files=(tmp_path / "val.jsonl",),
        directory=tmp_path / "dpo",
        torch_dtype="float32",
        system="",
        tokens=1000,
    )


def with_labels(request: TrainRequest) -> TrainRequest:
    """The request on the same pairs, each as two labelled rows."""
    paths = []
    for path in (*request.train_files, *request.val_files):
        paths.append(path.with_name(f"labelled_{path.name}"))
        write_json_lines(paths[-1], (row for each in read_json_lines(path) for row in labelled(each)))
    return replace(request, train_files=(paths[0],), val_files=(paths[1],))


def to_merge(request: TrainRequest, result: TrainResult, folder: Path) -> MergeRequest:
    return MergeRequest(
        stage="dpo",
        base=request.model_dir,
        adapter=Path(result.checkpoint),
        out=folder / "merged",
        logs=folder / "merge",
        model_type="qwen2",
        template="qwen2_5",
    )


def test_pairs_are_learnt_against_the_model_without_its_adapter_and_merged(
    request_: TrainRequest, tmp_path: Path
) -> None:
    result = train(request_, LocalPlace())
    assert (result.steps, result.rows, result.val_rows) == (4, 8, 4)
    # Before the first step the model is its own reference: the loss is that of a coin, and no margin is there yet.
    first = next(row for row in read_json_lines(request_.output_dir / "logging.jsonl") if "loss" in row)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-4)
    assert result.rewards.keys() == {"margin", "accuracy", "eval_margin", "eval_accuracy"}
    assert result.rewards["margin"] > 0
    assert result.loss < 0.6931
    merged = merge(to_merge(request_, result, tmp_path))
    assert merged.proof["passed"]
    assert merged.proof["relative_change"]["max"] > 0


def test_kto_learns_from_labelled_rows(request_: TrainRequest) -> None:
    recipe = PreferenceRecipe(**SETTINGS, rlhf_type="kto")
    result = train(with_labels(replace(request_, recipe=recipe)), LocalPlace())
    assert (result.steps, result.rows, result.val_rows) == (4, 16, 8)
    # kto logs no accuracy of its own, and a margin only where a step had wanted and unwanted answers.
    assert result.rewards.keys() - {"margin"} == {"eval_margin"}


def test_orpo_learns_without_a_reference(request_: TrainRequest) -> None:
    result = train(replace(request_, recipe=PreferenceRecipe(**SETTINGS, rlhf_type="orpo")), LocalPlace())
    assert (result.steps, result.rows, result.val_rows) == (4, 8, 4)
    assert result.rewards.keys() == {"margin", "accuracy", "eval_margin", "eval_accuracy"}


def test_all_weights_are_trained_against_a_second_model(request_: TrainRequest) -> None:
    changes = {"tuner_type": "full", "ref_model": str(request_.model_dir), "learning_rate": 1e-3}
    result = train(replace(request_, recipe=PreferenceRecipe(**{**SETTINGS, **changes})), LocalPlace())
    assert result.steps == 4
    assert result.rewards["margin"] > 0
    assert (Path(result.checkpoint) / "model.safetensors").is_file()
    assert last_whole_checkpoint(request_.output_dir) == Path(result.checkpoint)


@needs_compiler
@pytest.mark.parametrize(
    ("tuner", "name"), [("lora", "zero2"), ("lora", "zero3"), ("full", "zero2"), ("full", "zero3")]
)
def test_two_ranks_under_deepspeed_learn_what_one_process_learns(
    request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: str, name: str
) -> None:
    monkeypatch.setenv("MEDLLM_SLOTS", "2")
    start = tmp_path / "start.py"
    start.write_text(START, encoding="utf-8")
    own = {"tuner_type": tuner, "learning_rate": 1e-3} if tuner == "full" else {}
    # One process in the order that the two together have: the first of each two pairs is the first rank's.
    alone = replace(request_, recipe=PreferenceRecipe(**SETTINGS | own | {"per_device_train_batch_size": 4}))
    ranks = {"gpus": 2, "deepspeed": name, "extra": {"external_plugins": [str(start)]}}
    together = replace(request_, recipe=PreferenceRecipe(**SETTINGS | own | ranks), directory=tmp_path / "together")
    expected, result = train(alone, LocalPlace()), train(together, LocalPlace())
    assert (result.steps, result.rows, result.val_rows) == (4, 8, 4)
    assert is_whole(Path(result.checkpoint))
    assert result.loss == pytest.approx(expected.loss, abs=TOLERANCE)
    assert result.rewards["eval_margin"] == pytest.approx(expected.rewards["eval_margin"], abs=TOLERANCE)
    request = to_merge(request_, result, tmp_path)
    assert (adopt(request) if tuner == "full" else merge(request)).proof["passed"]
