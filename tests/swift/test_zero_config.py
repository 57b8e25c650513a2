"""DeepSpeed's settings, judged by DeepSpeed itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift import zero_config
from medllm_ops.swift.recipe import DEEPSPEED_NAMES, Recipe, parse_recipe
from medllm_ops.swift.zero_config import check_deepspeed

SOUND: dict[str, Any] = {
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"},
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}
OPTIMIZER = {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}}
SCHEDULER = {"type": "WarmupDecayLR", "params": {"warmup_num_steps": "auto", "total_num_steps": "auto"}}


def recipe_of(*settings: str, **fields: Any) -> Recipe:
    """A recipe whose stages have these DeepSpeed settings."""
    values = {"max_steps": 3, "gpus": 2, **fields}
    stages = {
        name: {**values, "deepspeed": each}
        for name, each in zip(("pretrain", "sft", "self_cognition"), settings, strict=False)
    }
    return parse_recipe({"name": "r", "model": "m", "torch_dtype": "bfloat16", "stages": stages}, "r.yaml")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))

    def do(name: str = "ds", **changes: Any) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(SOUND | changes), encoding="utf-8")
        return str(path)

    return do


def test_every_name_is_accepted_by_deepspeed(write: Any) -> None:
    first, second = DEEPSPEED_NAMES[:3], DEEPSPEED_NAMES[3:]
    assert check_deepspeed(recipe_of(*first)) == []
    notes = check_deepspeed(recipe_of(*second))
    assert len(notes) == 2
    assert all("needs a C++ compiler" in note for note in notes)


def test_a_file_is_judged_with_the_values_of_its_stage(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write("whole", optimizer=OPTIMIZER, scheduler=SCHEDULER, gradient_clipping="auto")
    typo = write("typo", zero_optimisation={"stage": 3})
    shards = write("shards", zero_optimization={"stage": 3})
    notes = check_deepspeed(recipe_of(whole, typo, shards))
    assert notes == [
        "stages.self_cognition: its checkpoints hold shards only: they are put together when the stage is merged",
        "stages.sft: DeepSpeed does not look at zero_optimisation: did you mean zero_optimization?",
    ]
    # The same question is asked once.
    monkeypatch.setattr(zero_config.subprocess, "run", None)
    assert check_deepspeed(recipe_of(whole, typo, shards)) == notes


def test_what_deepspeed_refuses_is_said_in_one_sentence(write: Any) -> None:
    questions = {
        "micro batch": (SOUND | {"train_micro_batch_size_per_gpu": 7}, "train_micro_batch_size_per_gpu=7"),
        "batch of all": (SOUND | {"train_batch_size": 1}, "train_batch_size=1 vs hf train_batch_size (calculated)=2"),
        "both halves": (SOUND | {"fp16": {"enabled": True}}, "fp16.enabled=True"),
        "no such stage": (SOUND | {"zero_optimization": {"stage": 9}}, "stage is 9"),
        "typo": (SOUND | {"zero_optimization": {"overlap_com": True}}, "overlap_com is True: Extra inputs"),
        "no stage": (SOUND | {"zero_optimization": 3}, ""),
    }
    values = zero_config._arguments(recipe_of("zero2").stages["pretrain"], "bfloat16", "sft")
    found = zero_config._ask({name: {"settings": each, "arguments": values} for name, (each, _) in questions.items()})
    for name, (_, words) in questions.items():
        assert found[name]["problem"], name
        assert words in found[name]["problem"], name
        assert "\n" not in found[name]["problem"]
    with pytest.raises(MedllmError, match=r"recipe r: stages\.pretrain\.deepspeed .*ds\.json: stage is 9"):
        check_deepspeed(recipe_of(write(zero_optimization={"stage": 9})))


def test_a_file_need_not_be_here_but_if_it_is_it_is_json(write: Any, tmp_path: Path) -> None:
    (note,) = check_deepspeed(recipe_of("/nowhere/ds.json"))
    assert note == "stages.pretrain: deepspeed /nowhere/ds.json is not here: it was not read"
    for text, told in (("{", "is not JSON"), ("[]", "is a list")):
        (tmp_path / "ds.json").write_text(text)
        with pytest.raises(MedllmError, match=told):
            check_deepspeed(recipe_of(str(tmp_path / "ds.json")))


def test_without_deepspeed_a_note_says_so(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_config, "_is_installed", lambda: False)
    assert check_deepspeed(recipe_of("zero3")) == [
        "stages.pretrain: DeepSpeed is not installed here: deepspeed zero3 was not checked"
    ]
