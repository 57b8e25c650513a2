from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from medllm_ops.errors import MedllmError
from medllm_ops.operators.params import check, form
from medllm_ops.parameters import Parameters
from medllm_ops.sources import catalogue


def test_the_form_is_the_parameters_and_the_runs_name() -> None:
    assert set(form()) == {*Parameters.model_fields, "run_name"}


@pytest.mark.parametrize("name", sorted(form()))
def test_every_field_is_told_in_words(name: str) -> None:
    param = form()[name]
    assert param.schema["title"]
    assert param.schema["section"]
    assert param.description
    # A switch and a choice show what there is; a list's examples would be all that could be chosen.
    shown = "enum" in param.schema or any(kind in param.schema["type"] for kind in ("boolean", "array"))
    if not shown and name != "run_name":
        assert param.schema["examples"]


@pytest.mark.parametrize("name", ["sources", "allow_licences"])
def test_every_source_of_the_catalogue_can_be_chosen(name: str) -> None:
    assert form()[name].schema["examples"] == [entry.name for entry in catalogue()]


def test_the_forms_defaults_are_valid() -> None:
    values = {name: param.resolve() for name, param in form().items()}
    assert check(values) == Parameters()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 5),
        ("max_length", -1),
        ("rows_per_source", -1),
        ("where", "moon"),
        ("name_en", "{{NAME}}"),
        ("name_en", "\u200b"),
        ("author_zh", "北辰\r实验室"),
        ("pretrain", "yes"),
        ("sources", "pubmed"),
        ("recipe", ""),
    ],
)
def test_a_bad_value_is_refused_by_the_form_and_by_the_check(name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        form()[name].resolve(value)
    with pytest.raises(MedllmError, match=f"bad parameters: {name}"):
        Parameters.check({name: value} if name != "pretrain" else {name: "perhaps"})
