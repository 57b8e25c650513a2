from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.parameters import Parameters


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rows_per_source": -1}, "rows_per_source: Input should be greater than or equal to 0 (got -1)"),
        ({"max_length": -1}, "max_length: Input should be greater than or equal to 0 (got -1)"),
        ({"learning_rate": 1}, "learning_rate: Input should be less than or equal to 0.01 (got 1)"),
        ({"learning_rate": float("nan")}, "learning_rate: Input should be less than or equal to 0.01 (got nan)"),
        ({"num_train_epochs": 101}, "num_train_epochs: Input should be less than or equal to 100 (got 101)"),
        ({"max_steps": "many"}, "max_steps: Input should be a valid integer"),
        ({"seed": 2**32}, "seed: Input should be less than 4294967296"),
        ({"where": "the moon"}, "where: Input should be 'local' or 'kubernetes' (got 'the moon')"),
        ({"name_zh": "{{NAME}}"}, "name_zh: Some text on one line, without braces, angle brackets and characters that"),
        ({"author_en": "  "}, "author_en: Some text on one line"),
        *(
            ({"name_en": f"Med{sign}Buddy"}, "angle brackets and characters that cannot be seen")
            for sign in ("\r", "\n", "\t", "\0", "\x85", "\u200b", "\u2028", "\u202e", "\ufeff")
        ),
        ({"name_zh": "\u200b"}, "name_zh: Some text on one line"),
        ({"name_en": "x" * 41}, "name_en: String should have at most 40 characters"),
        ({"recipe": ""}, "recipe: String should have at least 1 character"),
        (
            {"epochs": 3},
            "epochs: there is no such parameter (parameters: raw, corpus, dataset, sources, rows_per_source,",
        ),
        ({"raw": "/data", "corpus": "latest"}, "raw and corpus are given at the same time; a run trains on one of"),
        ({"dataset": "medical", "corpus": "latest"}, "corpus and dataset are given at the same time"),
        ({"dataset": "medical", "rows_per_source": 5}, "rows_per_source decide how a dataset is made, and medical is"),
        ({"sources": ["pubmde"]}, "there is no source 'pubmde'; did you mean pubmed? (sources: pubmed,"),
        ({"sources": "pubmed"}, "sources: Input should be a valid list"),
        ({"pretrain": False, "sft": False, "self_cognition": False, "dpo": False}, "every stage is switched off"),
        ({"dpo": "perhaps"}, "dpo: Input should be a valid boolean"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MedllmError) as caught:
        Parameters.check(values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["青禾医助", "Médi-Buddy 2.0", "MED·BUDDY (β) ∑", "O'Neill & Söhne", "医\u3000助"])
def test_a_name_may_have_any_character_that_is_seen(name: str) -> None:
    assert Parameters.check({"name_en": name}).name_en == name


def test_all_bad_parameters_are_named_at_once() -> None:
    with pytest.raises(MedllmError, match=r"^bad parameters: max_steps: .*; max_length: "):
        Parameters.check({"max_steps": -1, "max_length": "long"})


def test_a_source_is_taken_once_under_its_own_name() -> None:
    assert Parameters.check({"sources": ["tcm", "pubmed", "tcm_books"]}).sources == ["tcm_books", "pubmed"]


def test_what_every_field_of_the_form_needs_is_there() -> None:
    for name, field in Parameters.model_fields.items():
        assert field.title, name
        assert field.description, name


def test_alignment_is_off_until_somebody_says_otherwise() -> None:
    assert Parameters.check({}).stages == ("pretrain", "sft", "self_cognition")
    assert Parameters.check({"dpo": True}).stages == ("pretrain", "sft", "self_cognition", "dpo")
    alone = {"pretrain": False, "sft": False, "self_cognition": False, "dpo": True}
    assert Parameters.check(alone).stages == ("dpo",)
