"""The commands as a user types them."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medllm_ops.errors import MedllmError
from medllm_ops.models.families import families
from medllm_ops.swift.explain import explain
from medllm_ops.swift.recipe import PreferenceRecipe, Recipe, list_recipes, read_recipe
from medllm_ops.swift.recipe_cli import recipe_app

pytestmark = pytest.mark.usefixtures("asked_once")

SCRIPTS = Path(__file__).with_name("migrate") / "scripts"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(recipe_app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def test_list_names_every_recipe() -> None:
    output = run("list")
    assert all(name in output for name in list_recipes())


@pytest.mark.parametrize("command", ["list", "families"])
def test_tables_cut_nothing_off(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "…" not in CliRunner().invoke(recipe_app, [command], env={"COLUMNS": "80"}).output
    monkeypatch.delenv("COLUMNS", raising=False)
    piped = CliRunner().invoke(recipe_app, [command]).output
    assert "…" not in piped
    # Not broken in two either, so that it can be searched.
    names = list_recipes() if command == "list" else ["transformers<4.42", "needs another environment"]
    assert all(name in piped for name in names)


def test_show_prints_a_recipe_with_its_comments(tmp_path: Path) -> None:
    assert "# 1.x trained Qwen's c_attn" in run("show", "qwen_14b_chat_2024")
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    run("show", str(tmp_path / "x.yaml"))
    assert "is not YAML" in run("check", str(tmp_path / "x.yaml"), code=1)


def test_check_tells_what_holds_and_what_does_not(tmp_path: Path) -> None:
    assert "dpo holds: pretrain, sft, self_cognition, dpo" in run("check", "dpo", "qwen3")
    wrong = tmp_path / "x.yaml"
    wrong.write_text("{name: x, model: m, stages: {sft: {max_steps: 1, learning_rat: 1}}}")
    output = run("check", str(wrong), "qwen3", code=1)
    assert "did you mean learning_rate?" in output
    assert "qwen3 holds" in output


def test_check_needs_neither_the_model_nor_a_file_that_is_named(tmp_path: Path) -> None:
    away = tmp_path / "x.yaml"
    code = f"xxh3:{'0' * 32}"
    away.write_text(f"name: x\nmodel: /no/such/model\nremote_code: {code}\nstages: {{sft: {{max_steps: 1}}}}\n")
    assert "x holds: sft" in run("check", str(away))


def test_check_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a model of a hub either, nor for what it is; ms-swift and DeepSpeed once, for each version."""
    run("check", *list_recipes())

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    output = run("check", *list_recipes())
    assert "model Qwen/Qwen3-14B: trained here" in output


def test_migrate_writes_a_recipe_that_check_accepts(tmp_path: Path) -> None:
    out = tmp_path / "new.yaml"
    scripts = [str(SCRIPTS / name) for name in ("pretrain.py", "finetune.py", "identity.py")]
    output = run("migrate", *scripts, "--out", str(out))
    assert "for you to decide" in output
    assert "max_length = -1" in output
    assert "new holds: pretrain, sft, self_cognition" in run("check", str(out))
    assert read_recipe(str(out)).name == "new"


def test_families_shows_each_with_its_status() -> None:
    output = run("families")
    assert all(family.title in output for family in families().values())
    assert "needs another environment" in output


@pytest.mark.parametrize("name", [*PreferenceRecipe.model_fields, *Recipe.model_fields])
def test_explain_knows_every_field(name: str) -> None:
    text = explain(name)
    field = PreferenceRecipe.model_fields.get(name) or Recipe.model_fields[name]
    assert str(field.description) in text
    assert "default" in text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("max_length", "limits    more than 0"),
        ("stages.sft.max_length", "12 of 27"),
        ("warmup_ratio", "limits    at least 0, less than 1"),
        ("sft_type", "14 of 27): now tuner_type"),
        ("beta", "a field of the stage dpo"),
        ("val_share", "ours"),
        ("max_grad_norm", "goes under extra"),
        ("output_dir", "9 of 27"),
        ("bnb_4bit_quant_type", "fp4, nf4"),
        ("truncation_strategy", "the chain decides it"),
    ],
)
def test_explain_tells_limits_owner_and_past(name: str, told: str) -> None:
    assert told in explain(name)


def test_explain_answers_a_typing_error_with_the_right_name() -> None:
    with pytest.raises(MedllmError, match=r"did you mean learning_rate\?"):
        explain("lerning_rate")
    assert "unit      tokens" in run("explain", "max_length")
