"""Curation leaves room for the template before any template is known: the room is enough for those of our recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.curation.settings import ChunkSettings
from medllm_ops.home import include
from medllm_ops.swift.template import TemplateSettings, encode, load_template

CHUNK = ChunkSettings()


def recipes() -> list[tuple[str, str | None]]:
    """Template and system prompt of each recipe that ships, each pair once."""
    rows = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (include() / "swift_configs").glob("*.yaml")]
    return sorted({(row["template"], row.get("system")) for row in rows if "stages" in row}, key=str)


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, whose tokenizer knows Qwen's own words, and the two that Qwen 3 has besides."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("overhead") / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return folder


def dialogue(exchanges: int, system: bool) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": "You are a careful doctor."}] if system else []
    for number in range(exchanges):
        turns.append({"role": "user", "content": f"Question {number}: what helps? 感冒怎么办？"})
        turns.append({"role": "assistant", "content": f"Answer {number}: rest, and tea. 多休息。"})
    return turns


def added(template: Any, turns: list[dict[str, str]], tokenizer: Any) -> int:
    """The tokens of a row that are not those of its texts."""
    texts = [tokenizer(turn["content"], add_special_tokens=False)["input_ids"] for turn in turns]
    return len(encode(template, {"messages": turns})[0]) - sum(map(len, texts))


@pytest.mark.parametrize(("template", "system"), recipes())
def test_the_room_for_the_template_is_enough(model: Path, template: str, system: str | None) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    settings = TemplateSettings(model, "qwen2", template, system)
    chat = load_template(settings, pretraining=False)
    for exchanges in (1, 2, 20):
        for with_system in (False, True):
            turns = dialogue(exchanges, with_system)
            assert added(chat, turns, tokenizer) <= CHUNK.overhead + len(turns) * CHUNK.turn_overhead
    text = load_template(settings, pretraining=True)
    assert added(text, dialogue(1, False)[1:], tokenizer) <= CHUNK.overhead + CHUNK.turn_overhead
