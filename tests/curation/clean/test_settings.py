from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from medllm_ops.curation.clean import CleanSettings


def models(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    return [
        model,
        *(found for part in inner if isinstance(part, type) and issubclass(part, BaseModel) for found in models(part)),
    ]


def test_each_value_has_a_description_and_a_default() -> None:
    for model in models(CleanSettings):
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert not field.is_required(), name
            is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert is_section or field.description, name


@pytest.mark.parametrize(
    "wrong",
    [
        {"unicod": {}},
        {"english": {"min_word": 5}},
        {"english": {"min_words": -1}},
        {"repetition": {"top_2_gram": 1.5}},
        {"language": {"keep": []}},
        {"dialogues": {"faults": "ignore"}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CleanSettings.model_validate(wrong)


def test_settings_go_through_json_and_back() -> None:
    chosen = CleanSettings.model_validate({"chinese": {"min_characters": 30}, "language": {"keep": ["zh"]}})
    assert CleanSettings.model_validate_json(chosen.model_dump_json()) == chosen
    assert hash(chosen) == hash(chosen.model_copy())
