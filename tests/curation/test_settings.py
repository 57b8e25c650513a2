from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from medllm_ops.curation.settings import STEPS, CurationSettings, SetSettings, check_settings, read_settings
from medllm_ops.errors import MedllmError
from medllm_ops.home import include


def fields(model: BaseModel, place: str = "") -> dict[str, tuple[str, Any]]:
    """The description and the default of each value, by its place."""
    found: dict[str, tuple[str, Any]] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= fields(value, f"{place}{name}.")
        else:
            found[f"{place}{name}"] = (field.description or "", value)
    return found


def comments(text: str) -> dict[str, str]:
    """The comment above each key of a YAML file, by the key's place."""
    found, place, comment = {}, [], ""
    for line in text.splitlines():
        if match := re.fullmatch(r"( *)# (.*)", line):
            comment = f"{comment} {match[2]}".strip()
        elif match := re.fullmatch(r"( *)(\w+):.*", line):
            place = [*place[: len(match[1]) // 2], match[2]]
            found[".".join(place)], comment = comment, ""
        elif not line:
            comment = ""
    return found


def test_the_file_that_is_shipped_has_each_setting_with_its_default_and_what_it_does() -> None:
    path = include() / "datasets" / "curation.yaml"
    assert read_settings(path) == CurationSettings()
    told = comments(path.read_text(encoding="utf-8"))
    wanted = fields(CurationSettings())
    assert set(wanted) <= set(told)
    for place, (description, _) in wanted.items():
        assert description, place
        assert told[place] == description, place
    for name, field in SetSettings.model_fields.items():
        assert f"#    # {field.description}" in path.read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("clen: {}", "clen is unknown; did you mean clean?"),
        ("clean: {english: {min_word: 1}}", "clean.english.min_word is unknown; did you mean min_words?"),
        ("decontaminate: {words: {sise: 13}}", "decontaminate.words.sise is unknown; did you mean size?"),
        ("sets: {pubmed: {wieght: 2}}", "sets.pubmed.wieght is unknown; did you mean weight?"),
        ("sets: {pubmed: {weight: 2, count: 3}}", "sets.pubmed: give a count or a weight, not both"),
        ("sample: {draw: [pubmed]}", "'pubmed' is not NAME#N"),
        ("sample: {draw: [pubmed#0]}", "'pubmed#0' is not NAME#N"),
        ("sample: {draw: [a#3, a#2]}", "a is drawn twice"),
        ("{sample: {draw: [a#3]}, sets: {a: {count: 2}}}", "a stands in sample.draw and has a count"),
        ("chunk: {max_tokens: 40}", "max_tokens (40) leave no room"),
        ("sets: {a: {max_tokens: 40}}", "sets.a: max_tokens leave no room"),
        ("split: {val_share: 0}", "split.val_share: Input should be greater than 0 (got 0)"),
        ("seed: {}", "seed: Input should be a valid integer"),
        ("- seed", "is not a mapping"),
        ("seed: 1\nseed: 2", "is not YAML"),
        ("nothing_like_it: 1", "nothing_like_it is unknown (there are seed, clean,"),
        ("val_share: 0.2", "val_share is unknown; did you mean split.val_share or sets.NAME.val_share?"),
        ("split: {temprature: 2}", "split.temprature is unknown; did you mean sample.temperature?"),
        ("chunk: {kinds: [PHONE]}", "chunk.kinds is unknown; did you mean scrub.kinds?"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, wrong: str, said: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(MedllmError) as caught:
        read_settings(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_settings(tmp_path / "nowhere.yaml")


def test_an_empty_file_and_empty_sections_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    for text in ("", "# nothing\n", "clean:\n  # enabled: true\nsets:\n", "clean:\n  english:\n    # min_words: 3\n"):
        path.write_text(text, encoding="utf-8")
        assert read_settings(path) == CurationSettings()


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("duplicates.words", "threshold", 0.8),
        ("duplicates.characters", "size", 3),
        ("decontaminate.words", "size", 10),
        ("clean.answer_repetition", "repeated_lines", 0.5),
        ("clean.repetition", "repeated_lines", 0.5),
        ("sample", "total", 20),
    ],
)
def test_what_is_left_out_of_a_section_stays_as_it_is(section: str, field: str, value: float) -> None:
    given: dict[str, Any] = {field: value}
    for name in reversed(section.split(".")):
        given = {name: given}
    changed = fields(check_settings(given, "settings"))
    before = fields(CurationSettings())
    assert {place for place in before if changed[place] != before[place]} == {f"{section}.{field}"}


def test_sets_go_before_the_settings_of_all() -> None:
    settings = check_settings(
        {
            "split": {"val_share": 0.2},
            "chunk": {"max_tokens": 512},
            "sample": {"draw": ["a#10"]},
            "sets": {
                "b": {"val_share": 0.5, "max_tokens": 100, "dialogues": "reject", "count": 7},
                "c": {"weight": 0},
            },
        },
        "settings",
    )
    assert (settings.val_share("a"), settings.val_share("b")) == (0.2, 0.5)
    assert (settings.max_tokens("a"), settings.max_tokens("b")) == (512, 100)
    assert (settings.dialogues("a"), settings.dialogues("b")) == ("shorten", "reject")
    assert settings.counts == {"a": 10, "b": 7}
    assert settings.weights == {"c": 0}


def test_settings_go_through_json_and_back() -> None:
    settings = check_settings({"clean": {"enabled": False}, "sets": {"a": {"count": 3}}}, "settings")
    assert CurationSettings.model_validate_json(settings.model_dump_json()) == settings


def test_each_step_that_drops_has_a_limit() -> None:
    settings = check_settings({"max_dropped_share": {"exact_dedup": 0.5}}, "settings")
    assert settings.max_dropped_share.of("exact dedup") == 0.5
    limits = {step.replace(" ", "_") for step in STEPS if step != "sample"}
    assert limits == set(type(settings.max_dropped_share).model_fields)
