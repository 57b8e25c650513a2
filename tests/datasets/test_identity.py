from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.datasets.identity import Identity, draw, identity_rows, mix
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json_lines

IDENTITY = Identity(name_zh="杏林小医", name_en="MedBuddy", author_zh="杏林实验室", author_en="Xinglin Lab")
ROWS = [
    {"query": "你是谁？", "response": "我是{{NAME}}，由{{AUTHOR}}训练。", "tag": "zh"},
    {"query": "Are you {{NAME}}?", "response": "Yes, {{NAME}} by {{AUTHOR}}; {{NAME}}.", "tag": "en"},
]


def numbered(prefix: str, count: int) -> list[dict[str, Any]]:
    return [{"id": f"{prefix}:{number}", "messages": []} for number in range(count)]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def write(path: Path, rows: list[Any]) -> Path:
    write_json_lines(path, rows)
    return path


def test_placeholders_are_filled_in_with_the_names_of_the_rows_language(tmp_path: Path) -> None:
    rows = identity_rows(write(tmp_path / "rows.jsonl", ROWS), IDENTITY)
    assert [[turn["content"] for turn in row["messages"]] for row in rows] == [
        ["你是谁？", "我是杏林小医，由杏林实验室训练。"],
        ["Are you MedBuddy?", "Yes, MedBuddy by Xinglin Lab; MedBuddy."],
    ]
    assert [[turn["role"] for turn in row["messages"]] for row in rows] == [["user", "assistant"]] * 2
    assert [row["language"] for row in rows] == ["zh", "en"]


def test_a_row_has_the_same_id_whatever_the_model_is_called(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS)
    other = Identity("别名", "Other", "别人", "Others")
    assert ids(identity_rows(path, IDENTITY)) == ids(identity_rows(path, other))
    assert len(set(ids(identity_rows(path, IDENTITY)))) == 2


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"query": "q", "response": "I am {{ NAME }}", "tag": "en"}, "line 2: unknown placeholder"),
        ({"query": "{{MODEL}}?", "response": "r", "tag": "en"}, "line 2: unknown placeholder"),
        ({"query": "q", "response": "r", "tag": "fr"}, r"line 2: an identity row needs .* tag \(zh or en\)"),
        ({"query": "q", "response": "r"}, "line 2: an identity row needs query, response and tag"),
        ({"query": "q", "response": "", "tag": "en"}, "line 2: an identity row needs query, response"),
        ({"response": "r", "tag": "en"}, "line 2: an identity row needs query"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: dict[str, str], sentence: str) -> None:
    path = write(tmp_path / "rows.jsonl", [ROWS[0], row])
    with pytest.raises(MedllmError, match=sentence) as caught:
        identity_rows(path, IDENTITY)
    assert str(path) in str(caught.value)


def test_rows_come_again_under_ids_of_their_own_until_there_are_enough() -> None:
    drawn = draw(numbered("a", 3), 8, seed=1)
    assert len(set(ids(drawn))) == 8
    first = ids(drawn)[:3]
    assert sorted(first) == ["a:0", "a:1", "a:2"]
    assert ids(drawn)[3:] == [*(f"{id_}#2" for id_ in first), *(f"{id_}#3" for id_ in first[:2])]
    assert draw([], 5, seed=1) == []
    assert draw(numbered("a", 3), 0, seed=1) == []


@given(st.integers(0, 12), st.integers(0, 12), st.randoms(use_true_random=False), st.integers(0, 5))
def test_a_mix_has_the_asked_counts_and_depends_on_seed_and_rows_only(
    own: int, general: int, chance: Any, seed: int
) -> None:
    one, other = numbered("identity", 5), numbered("sft", 7)
    mixed = mix(one, other, (own, general), seed)
    assert sum(row["id"].startswith("identity") for row in mixed) == own
    assert sum(row["id"].startswith("sft") for row in mixed) == general
    assert len(set(ids(mixed))) == own + general
    chance.shuffle(one)
    chance.shuffle(other)
    assert mix(one, other, (own, general), seed) == mixed


def test_another_seed_draws_and_mixes_otherwise() -> None:
    rows = (numbered("identity", 50), numbered("sft", 50))
    one, other = mix(*rows, (20, 20), seed=1), mix(*rows, (20, 20), seed=2)
    assert set(ids(one)) != set(ids(other))
    everything = [mix(*rows, (50, 50), seed=seed) for seed in (1, 2)]
    assert ids(everything[0]) != ids(everything[1])
    assert sorted(ids(everything[0])) == sorted(ids(everything[1]))
    # Mixed, not one kind after the other.
    kinds = [id_.startswith("identity") for id_ in ids(everything[0])]
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True))
