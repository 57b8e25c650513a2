"""A tiny random twin of each family goes through pretraining, merge, instruction tuning and merge, in minutes."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from medllm_ops.models.families import find_member
from medllm_ops.swift.families import Status, record, standing
from medllm_ops.swift.prove_family import prove

# Of each family, the newest member whose class today's transformers has, and what else recipes are made for.
MODELS = [
    "ZhipuAI/GLM-5.3",
    "baichuan-inc/Baichuan-M3-235B",
    "internlm3-8b-instruct as Llama",
    "Qwen/Qwen3-32B",
    "Skywork/Skywork-OR1-32B",
    "01ai/Yi-Coder-9B-Chat",
    "baichuan-inc/Baichuan-M2-32B",
    "ZhipuAI/GLM-4-9B-0414",
    "ZhipuAI/GLM-4.7-Flash",
    "AI-ModelScope/Skywork-o1-Open-Llama-3.1-8B",
    "01ai/Yi-1.5-34B-Chat",
    # For images too: they need packages beside the lock (docs/families.md).
    "ZhipuAI/GLM-5.3-Flash",
    "Qwen/Qwen3.8-Flash-Next",
    "Qwen/Qwen3.8-27B",
    "Qwen/Qwen3-VL-32B-Instruct",
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", MODELS)
def test_a_twin_is_trained_and_merged_twice(model: str, tmp_path: Path) -> None:
    """With ``MEDLLM_RECORD=1`` the result goes into ``trained.json``, which the table of families reads."""
    member = find_member(model)
    if (found := standing(member)).status is Status.OTHER_ENVIRONMENT:
        pytest.skip(f"{model} needs another environment: {found.reason}")
    proof = prove(member, tmp_path / "twin")
    assert list(proof.losses) == list(proof.differences) == ["pretrain", "sft"]
    assert all(0 < loss < 20 for loss in proof.losses.values())
    if os.environ.get("MEDLLM_RECORD"):
        record(member.key, asdict(proof))
    assert standing(member).status is Status.TRAINED, "run it with MEDLLM_RECORD=1 and commit trained.json"


def test_the_recorded_results_are_those_of_members() -> None:
    keys = {find_member(model).key for model in MODELS}
    from medllm_ops.swift.families import results_by_key

    assert set(results_by_key()) <= keys
