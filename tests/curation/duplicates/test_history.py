"""A history of steps against a model that compares everything with everything and remembers plain text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.normalise import compared
from medllm_ops.curation.duplicates.settings import DuplicateSettings, Shingles
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder
from medllm_ops.curation.duplicates.verify import jaccard, shingle_sets
from medllm_ops.files import write_json_lines

Row = dict[str, Any]
# Bands enough that no pair above the threshold is missed: what is tested here is the bookkeeping.
SETTINGS = DuplicateSettings(words=Shingles(candidate_size=2, size=2, threshold=0.6), bands=128, rows=2)
EXAMPLES = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Model:
    """The rules in the plainest way."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def step(self, rows: list[Row], gone: list[str]) -> None:
        new = {row["id"]: row for row in rows}
        state = {
            id_: row for id_, row in self.rows.items() if id_ not in gone or (id_ in new and self.same(row, new[id_]))
        }
        state = {id_: row for id_, row in state.items() if id_ not in new or self.same(row, new[id_])}
        names: dict[bytes, bytes] = {row["content"]: row["cluster"] for row in state.values()}
        groups = [{name} | {content for content in names if names[content] == name} for name in set(names.values())]
        texts = {row["content"]: row["text"] for row in state.values()}
        for row in rows:
            seen = compared(row)
            content, text = seen.content, seen.text
            if content not in texts:
                near = [other for other in texts if self.near(text, texts[other])]
                touched = [group for group in groups if group & {content, *near}]
                groups = [group for group in groups if group not in touched] + [set().union({content}, *touched)]
            texts[content] = text
        before = dict(state)
        for row in rows:
            seen = compared(row)
            was = state.get(row["id"])
            kept = was["kept"] if was else None
            state[row["id"]] = {
                "content": seen.content, "text": seen.text, "length": seen.length,
                "retracted": row["retracted"], "kept": kept, "cluster": None,
            }  # fmt: skip
        old_names = {row["cluster"] for row in before.values()}
        for group in groups:
            old = sorted(group & old_names)
            members = {id_: row for id_, row in state.items() if row["content"] in group}
            for row in members.values():
                row["cluster"] = old[0] if old else min(group)
            self.elect(members)
        self.rows = state

    @staticmethod
    def same(row: Row, new: Row) -> bool:
        return bool(row["content"] == compared(new).content)

    @staticmethod
    def near(one: str, other: str) -> bool:
        unit = compared({"messages": [{"role": "assistant", "content": one}]}).unit
        return jaccard(shingle_sets(one, unit, 2), shingle_sets(other, unit, 2)) >= 0.6

    @staticmethod
    def elect(members: dict[str, Row]) -> None:
        def rank(id_: str) -> Any:
            row = members[id_]
            return row["retracted"], row["kept"] != id_, -row["length"], id_

        best = min(members, key=rank)
        stay = {best} | {id_ for id_, row in members.items() if row["kept"] == id_ and not row["retracted"]}
        for id_, row in members.items():
            equal = [one for one in sorted(stay) if members[one]["content"] == row["content"]]
            row["kept"] = id_ if id_ in stay else equal[0] if equal else best


WORDS = [f"w{number}" for number in range(200)]


def text(family: int, window: int) -> str:
    """Windows that stand next to each other are near duplicates (0.66); others are not (0.42), but by a chain."""
    start = family * 80 + window * 8
    return " ".join(WORDS[start : start + 40])


ROW = st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 4), st.sampled_from([False, False, True]))
STEP = st.tuples(st.lists(ROW, max_size=6, unique_by=lambda row: row[0]), st.lists(st.integers(0, 9), max_size=3))
HISTORY = st.lists(STEP, min_size=1, max_size=5)


def rows_of(step: list[tuple[int, int, int, bool]]) -> list[Row]:
    return [
        {
            "id": f"r{number}",
            "messages": [{"role": "assistant", "content": text(family, window)}],
            "source": "s",
            "version": 1,
            "retracted": retracted,
        }
        for number, family, window, retracted in step
    ]


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., SignatureFolder]:
    """Take steps one after the other into a new folder."""
    calls = iter(range(10**6))

    def do(history: list[tuple[list[Row], list[str]]]) -> SignatureFolder:
        here = tmp_path / str(next(calls))
        known = SignatureFolder(here / "signatures", SETTINGS)
        for number, (rows, gone) in enumerate(history):
            write_json_lines(here / "a.jsonl", rows)
            deduplicate({"a": here / "a.jsonl"}, here / f"out{number}", SETTINGS, known=known, gone=gone)
        return known

    return do


def everything(known: SignatureFolder) -> dict[str, Row]:
    rows = known.by_id(pa.array([f"r{number}" for number in range(40)], pa.string())).to_pylist()
    return {row["id"]: row for row in rows}


BEFORE_AND_AFTER_A_CORRECTION = [
    ([(6, 1, 4, True), (7, 1, 4, False), (8, 1, 3, False)], []),
    ([(7, 1, 3, False)], []),
]


@given(HISTORY)
@example(BEFORE_AND_AFTER_A_CORRECTION)
@EXAMPLES
def test_every_history_ends_as_the_model_says(replay: Callable[..., SignatureFolder], history: Any) -> None:
    steps = [(rows_of(rows), [f"r{number}" for number in gone]) for rows, gone in history]
    model = Model()
    for rows, gone in steps:
        model.step(rows, gone)
    found = everything(replay(steps))
    keys = ("content", "cluster", "kept", "retracted", "length")
    assert {id_: {key: row[key] for key in keys} for id_, row in found.items()} == {
        id_: {key: row[key] for key in keys} for id_, row in model.rows.items()
    }
    for row in found.values():
        one, other = model.rows[row["id"]]["text"], model.rows[row["kept"]]["text"]
        expected = jaccard(shingle_sets(one, 0, 2), shingle_sets(other, 0, 2))  # type: ignore[arg-type]
        assert row["similarity"] == pytest.approx(expected)


@given(st.lists(ROW, max_size=12, unique_by=lambda row: row[0]), st.integers(1, 4))
@EXAMPLES
def test_new_rows_in_whatever_portions_give_the_clusters_of_all_at_once(
    replay: Callable[..., SignatureFolder], rows: Any, portions: int
) -> None:
    whole = everything(replay([(rows_of(rows), [])]))
    parts = everything(replay([(rows_of(rows[number::portions]), []) for number in range(portions)]))

    def groups(found: dict[str, Row]) -> set[frozenset[str]]:
        return {frozenset(id_ for id_ in found if found[id_]["cluster"] == row["cluster"]) for row in found.values()}

    assert groups(whole) == groups(parts)


@given(HISTORY, ROW)
@EXAMPLES
def test_a_step_that_is_repeated_changes_nothing(
    replay: Callable[..., SignatureFolder], history: Any, row: Any
) -> None:
    steps = [(rows_of(rows), [f"r{number}" for number in gone]) for rows, gone in history]
    steps.append((rows_of([row]), []))
    assert everything(replay([*steps, steps[-1], steps[-1]])) == everything(replay(steps))
