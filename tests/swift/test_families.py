"""The table of families against ms-swift itself, and the statuses that are computed from it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.models.families import Member, families, find_member, members
from medllm_ops.swift import families as table
from medllm_ops.swift.families import Status, check_family, registry, standing, unmet_requirement, versions
from medllm_ops.swift.recipe import read_recipe

pytestmark = pytest.mark.usefixtures("asked_once")

QWEN3 = find_member("Qwen/Qwen3-32B")


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of the test's own."""
    monkeypatch.setattr(table, "RESULTS", tmp_path / "trained.json")
    return tmp_path / "trained.json"


def result(**changes: Any) -> dict[str, Any]:
    return {"versions": versions(), "seconds": 1.0, **changes}


@pytest.mark.parametrize("member", members(), ids=lambda member: member.key)
def test_the_table_says_what_ms_swift_says(member: Member) -> None:
    kind = registry()["types"][member.model_type]
    assert member.template in registry()["templates"]
    if member.listed:
        assert member.architecture in kind["architectures"]
        for model in member.models:
            assert kind["templates"][model] in (member.template, None), model
    else:
        assert not set(member.models) & set(kind["templates"])
    assert member.remote_code == (member.architecture not in registry()["classes"])


def test_a_member_that_was_trained_with_these_versions_is_trained_here(recorded: Path) -> None:
    write_json(recorded, {QWEN3.key: result()})
    assert standing(QWEN3).status is Status.TRAINED
    assert not standing(QWEN3).refused


def test_other_versions_prove_nothing(recorded: Path) -> None:
    write_json(recorded, {QWEN3.key: result(versions={**versions(), "transformers": "4.51.0"})})
    found = standing(QWEN3)
    assert (found.status, found.reason) == (Status.NOT_PROVEN, "a twin of it was trained with transformers 4.51.0")


def test_without_a_result_nothing_is_proven(recorded: Path) -> None:
    assert standing(QWEN3).status is Status.NOT_PROVEN
    assert "code of its own" in standing(find_member("Qwen/Qwen-14B-Chat")).reason


def test_a_recorded_failure_is_the_reason_why_not(recorded: Path) -> None:
    write_json(recorded, {QWEN3.key: result(failure="its classes cannot be imported")})
    assert standing(QWEN3) == table.Standing(Status.UNSUPPORTED, "its classes cannot be imported")


def test_what_ms_swift_requires_is_held_against_what_is_installed(recorded: Path) -> None:
    here = importlib.metadata.version("transformers")
    for name, asked in (("chatglm3-6b", "transformers<4.42"), ("Baichuan-13B-Chat", "transformers<4.34")):
        member = find_member(name)
        write_json(recorded, {member.key: result()})
        found = standing(member)
        assert (found.status, found.refused) == (Status.OTHER_ENVIRONMENT, True)
        assert f"{asked} ({here} is installed)" in found.reason


def test_a_requirement_is_met_or_told() -> None:
    assert unmet_requirement("transformers>=4.34") is None
    assert unmet_requirement("transformers>=5.0.0.dev") is None
    assert unmet_requirement("no-such-package>=1") == "no-such-package>=1 (not installed)"


def test_a_type_or_a_class_that_is_not_there_is_unsupported() -> None:
    gone = QWEN3.model_copy(update={"model_type": "no_such_type"})
    assert standing(gone).reason.endswith("has no model type no_such_type")
    gone = QWEN3.model_copy(update={"architecture": "NoSuchForCausalLM"})
    assert standing(gone).status is Status.UNSUPPORTED


def test_a_recipe_is_refused_where_its_model_cannot_be_trained() -> None:
    recipe = read_recipe("qwen3")
    assert check_family(recipe) == standing(QWEN3)
    assert check_family(read_recipe("demo")) is None
    with pytest.raises(MedllmError, match=r"needs another environment: one with transformers<4\.42"):
        check_family(recipe, "ZhipuAI/chatglm3-6b")


def test_without_ms_swift_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "swift" else find_spec(name))
    assert standing(QWEN3) == table.Standing(Status.UNKNOWN, "ms-swift is not installed here")


def test_each_family_has_a_member_that_was_trained() -> None:
    """With the versions of the lock, which are those that the tests run with."""
    for name, family in families().items():
        assert any(standing(member).status is Status.TRAINED for member in family.members), name
