import stat
import sys
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json_lines
from medllm_ops.swift.counting import count_tokens
from medllm_ops.swift.template import TemplateSettings
from medllm_ops.swift.tokens import count


def test_tokens_are_those_of_the_models_own_template(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    text = "Ginseng is a root. 人参。"
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]
    write_json_lines(tmp_path / "texts.jsonl", [{"messages": turns[1:]}, {"messages": turns[1:] * 2}])
    refused: list[list[dict[str, str]]] = [[], [{"role": "system", "content": "s"}] * 2 + turns]
    long = [turns[0], {"role": "assistant", "content": "root " * 5000}]
    write_json_lines(tmp_path / "chats.jsonl", [{"messages": row} for row in [turns, *refused, long]])
    files = [
        {"path": str(tmp_path / "texts.jsonl"), "pretraining": True, "system": "S"},
        {"path": str(tmp_path / "chats.jsonl"), "pretraining": False, "system": ""},
        {"path": str(tmp_path / "chats.jsonl"), "pretraining": False, "system": "You are a doctor."},
    ]
    result = count({"model_dir": str(tiny_model), "model_type": "qwen2", "template": "qwen2_5", "files": files})
    assert result["model_max_length"] == 2048
    texts, chats, with_system = (file["tokens"] for file in result["files"])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert texts[0] == len(tokenizer(text)["input_ids"]) + 1  # and the end of the text
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    assert chats[0] == len(tokenizer(rendered.strip())["input_ids"]) + 1  # the line end after the last turn
    assert chats[1:3] == [0, 0]
    assert chats[3] > 5000  # more than the model takes, and counted all the same
    assert with_system[0] > chats[0]


def test_of_a_pair_the_longer_dialogue_and_both_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    asked, better = {"role": "user", "content": "What?"}, {"role": "assistant", "content": "Ginseng."}
    worse = {"role": "assistant", "content": "That is a long story, and I shall not tell it."}
    pair = {"id": "a:1", "messages": [asked, better], "rejected_response": worse["content"]}
    # A pair of which one dialogue cannot be encoded is refused as a whole.
    refused = {"id": "a:2", "messages": [], "rejected_response": "no"}
    write_json_lines(tmp_path / "rows.jsonl", [{"messages": [asked, better]}, {"messages": [asked, worse]}, pair])
    write_json_lines(tmp_path / "refused.jsonl", [refused])
    files = [
        {"path": str(tmp_path / f"{name}.jsonl"), "pretraining": False, "system": ""} for name in ("rows", "refused")
    ]
    result = count({"model_dir": str(tiny_model), "model_type": "qwen2", "template": "qwen2_5", "files": files})
    rows, none = result["files"]
    first, second, both = rows["tokens"]
    assert both == second > first > 0
    assert rows["computed"] == [first, second, first + second]
    assert none["tokens"] == [0]


def python_that(tmp_path: Path, does: str) -> str:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def test_a_model_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TemplateSettings(Path("/models/broken"), "qwen2", "qwen2_5", None)
    rows = {tmp_path / "rows.jsonl": "sft"}
    for does, reason in (
        ("echo Traceback >&2; echo 'ValueError: no tokenizer' >&2; exit 1", "ValueError: no tokenizer"),
        ("exit 1", "no reason given"),
    ):
        monkeypatch.setattr(sys, "executable", python_that(tmp_path, does))
        with pytest.raises(MedllmError, match=f"with the model /models/broken: {reason}"):
            count_tokens(rows, settings)


def test_counts_come_back_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    answer = f'{{"model_max_length": 7, "files": [{{"path": "{rows}", "tokens": [1, 2], "computed": [1, 3]}}]}}'
    # The arguments: -m medllm_ops.swift.tokens REQUEST ANSWER.
    keep = f'cp "$3" {tmp_path}/request.json; cat > "$4" <<END\n{answer}\nEND'
    monkeypatch.setattr(sys, "executable", python_that(tmp_path, keep))
    counts = count_tokens({rows: "pretrain"}, TemplateSettings(Path("/m"), None, "chatml", "S"))
    assert (counts.by_file, counts.model_maximum, counts.computed) == ({rows: [1, 2]}, 7, {rows: [1, 3]})
    asked = (tmp_path / "request.json").read_text()
    assert '"pretraining": true' in asked
    assert '"template": "chatml"' in asked
