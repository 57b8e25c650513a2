"""What a person types after ``--set``."""

from __future__ import annotations

from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.fetch.pubmed import Settings
from medllm_ops.parameters import Parameters
from medllm_ops.yaml_file import read_setting, read_yaml_text


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("corpus=7", "7"),
        ("corpus=2026-10-01", "2026-10-01"),
        ("corpus=latest", "latest"),
        ("corpus=", None),
        ("corpus=null", None),
        ("name_en=2026", "2026"),
        ("max_steps=50", 50),
        ("learning_rate=1e-4", 1e-4),
        ("sources=[pubmed, docx]", ["pubmed", "docx"]),
        ("serve=false", False),
    ],
)
def test_a_field_of_a_run(item: str, value: Any) -> None:
    name, found = read_setting(item, Parameters)
    assert (name, found) == (item.partition("=")[0], value)
    assert getattr(Parameters.check({name: found}), name) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0777", "0777"),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("0", 0),
        ("-12", -12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("0.05", 0.05),
        ("1.5e-3", 0.0015),
        (".inf", float("inf")),
    ],
)
def test_a_number_is_one_only_if_everybody_reads_it_as_the_same(text: str, value: Any) -> None:
    found = read_yaml_text(text)
    assert (found, type(found)) == (value, type(value))


def test_a_query_is_taken_as_it_is() -> None:
    assert read_setting('query="lung cancer"[title] # 1 = x', Settings) == ("query", '"lung cancer"[title] # 1 = x')


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("max_steps", "--set max_steps: it must be NAME=VALUE"),
        ("max_steps=[", r"--set max_steps=\[: the value is not YAML: while parsing"),
    ],
)
def test_a_mistake_is_one_sentence(item: str, sentence: str) -> None:
    with pytest.raises(MedllmError, match=sentence) as error:
        read_setting(item, Parameters)
    assert "\n" not in str(error.value)
