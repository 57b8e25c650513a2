"""What is refused before anything is fetched or converted."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.models import resolve
from medllm_ops.parameters import Parameters
from medllm_ops.plan import make_plan, start
from medllm_ops.run import Run
from medllm_ops.swift.installed import installed


class FetchedError(Exception):
    """The model was asked for."""


@pytest.fixture(autouse=True)
def _nothing_is_fetched(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    def fetch(*arguments: object) -> Path:
        raise FetchedError

    monkeypatch.setattr(resolve, "resolve_model", fetch)
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    yield
    assert not (tmp_path / "home" / "runs" / "x" / "plan.json").exists()


def plan(
    tmp_path: Path, *, extra: dict[str, Any] | None = None, form: dict[str, Any] | None = None, **values: Any
) -> None:
    stage = {"max_steps": 1, "extra": extra or {}}
    recipe = {"name": "x", "model": "tiny-random-qwen2", "stages": {"sft": stage}, **values}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    parameters = {"recipe": str(tmp_path / "x.yaml"), "pretrain": False, "self_cognition": False}
    make_plan(Run.create("x", Parameters.check(parameters | (form or {}))))


def test_a_model_that_needs_another_environment_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"^ZhipuAI/chatglm3-6b needs another environment: one with tr.*<4\.42"):
        plan(tmp_path, model="ZhipuAI/chatglm3-6b")
    with pytest.raises(FetchedError):
        plan(tmp_path, model="Qwen/Qwen3-4B")


def test_what_ms_swift_would_refuse_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"stages\.sft: .* use_ligr_kernel \(did you mean use_liger_kernel"):
        plan(tmp_path, extra={"use_ligr_kernel": True})
    with pytest.raises(MedllmError, match="ms-swift knows no template qwen9"):
        plan(tmp_path, template="qwen9")


@pytest.mark.parametrize(
    ("field", "word"),
    [("raw", "raw"), ("curation", "./own.yaml"), ("evalsets", "asked"), ("model", "model"), ("recipe", "own.yaml")],
)
def test_the_same_words_in_two_folders_are_two_runs(
    field: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        (folder / "model").mkdir(parents=True)
        (folder / "own.yaml").write_text("{name: own, model: tiny-random-qwen2, stages: {sft: {max_steps: 1}}}")
        monkeypatch.chdir(folder)
        runs.append(start(None, Parameters.check({field: [word] if field == "evalsets" else word})))
        told = getattr(runs[-1].parameters, field)
        assert told == ([str(folder / word)] if field == "evalsets" else str(folder / word))
        monkeypatch.chdir(tmp_path)
        assert start(None, Parameters.check({field: told})) == runs[-1]
    assert runs[0].name != runs[1].name


def test_a_dataset_and_a_shape_in_a_folder_are_told_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    run = start("folders", Parameters.check({"dataset": "./frozen/1", "model": "random:model"}))
    assert run.parameters.dataset == str(tmp_path / "frozen" / "1")
    assert run.parameters.model == f"random:{tmp_path / 'model'}"


@pytest.mark.parametrize("model", ["Qwen/Qwen3-14B", "tiny-random-qwen2", "random:Qwen/Qwen3-14B"])
def test_a_name_is_not_taken_for_a_path(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-random-qwen2").mkdir()
    (tmp_path / "medical").mkdir()
    run = start("names", Parameters.check({"dataset": "medical@3", "model": model, "recipe": "demo"}))
    assert (run.parameters.dataset, run.parameters.model, run.parameters.recipe) == ("medical@3", model, "demo")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"name_en": "Jupiter"}, "the largest planet"),
        ({"name_zh": "东京"}, "日本的首都"),
        ({"name_en": "Juliet"}, "Who wrote Romeo and Juliet"),
        ({"author_zh": "谁"}, "是谁把你开发出来的"),
    ],
)
def test_a_name_of_the_identity_gates_own_text_is_refused_first(
    names: dict[str, str], text: str, tmp_path: Path
) -> None:
    stages = {"sft": {"max_steps": 1}, "self_cognition": {"max_steps": 1}}
    with pytest.raises(MedllmError, match=f"stands in the identity gate's own text .*{text}"):
        plan(tmp_path, form={"self_cognition": True, **names}, stages=stages)


def test_without_self_cognition_any_name_will_do(tmp_path: Path) -> None:
    with pytest.raises(FetchedError):
        plan(tmp_path, form={"name_en": "Jupiter"})


def test_an_evaluation_set_that_is_missing_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"none\.jsonl: there is no such file"):
        plan(tmp_path, form={"evalsets": [str(tmp_path / "none.jsonl")]})


def test_where_ms_swift_is_not_installed_nothing_is_known_and_nothing_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "swift" else find_spec(name))
    installed.cache_clear()
    with pytest.raises(FetchedError):
        plan(tmp_path, model="ZhipuAI/chatglm3-6b")
    assert not (tmp_path / "home" / "cache").exists()
