import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medllm_ops.curation.split import Assignments, AssignmentTable, side_of, split_set
from medllm_ops.files import read_json_lines, text_hash

SHARE = 0.3
IDS = st.text("abcdefghij", min_size=1, max_size=2)
CONTENTS = st.text("0123456789", min_size=1, max_size=2)
RECORDS = st.dictionaries(IDS, CONTENTS, max_size=12)
UNIQUE_RECORDS = RECORDS.map(
    lambda records: {id_: content for content, id_ in {v: k for k, v in records.items()}.items()}
)
HISTORY = st.lists(UNIQUE_RECORDS, max_size=3)


def after(history: list[dict[str, str]]) -> Assignments:
    assignments = Assignments()
    for records in history:
        assignments.assign(records, SHARE)
    return assignments


def rows_of(records: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "id": id_,
            "messages": [{"role": "assistant", "content": content}],
            "content": content,
            "title": "not exported",
        }
        for id_, content in records.items()
    ]


@given(UNIQUE_RECORDS, UNIQUE_RECORDS)
def test_equal_contents_share_a_side_whatever_their_ids(first: dict[str, str], second: dict[str, str]) -> None:
    second = {f"other {id_}": content for id_, content in second.items()}
    assignments = after([first])
    sides = assignments.assign(second, SHARE)
    known = {content: assignments.by_id[id_] for id_, content in first.items()}
    assert all(sides[id_] == known[content] for id_, content in second.items() if content in known)


@given(RECORDS)
def test_equal_contents_of_one_set_share_a_side(records: dict[str, str]) -> None:
    sides = Assignments().assign(records, SHARE)
    assert len({(content, sides[id_]) for id_, content in records.items()}) == len(set(records.values()))


@given(UNIQUE_RECORDS, st.integers(0, 99))
def test_a_record_keeps_its_side_when_its_text_is_corrected(records: dict[str, str], seed: int) -> None:
    assume(records)
    assignments = after([records])
    before = {id_: assignments.by_id[id_] for id_ in records}
    id_ = random.Random(seed).choice(sorted(records))
    corrected = {**records, id_: f"corrected {seed}"}
    assert assignments.assign(corrected, SHARE) == before
    # And a newcomer with the corrected text goes where that text is.
    assert assignments.assign({"newcomer": f"corrected {seed}"}, SHARE) == {"newcomer": before[id_]}


@given(HISTORY, UNIQUE_RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_records_changes_nothing(
    history: list[dict[str, str]], records: dict[str, str], chance: random.Random
) -> None:
    shuffled = list(records.items())
    chance.shuffle(shuffled)
    one, other = after(history), after(history)
    assert one.assign(records, SHARE) == other.assign(dict(shuffled), SHARE)
    assert one == other


@given(HISTORY, UNIQUE_RECORDS)
def test_more_rows_move_no_old_one(history: list[dict[str, str]], more: dict[str, str]) -> None:
    assignments = after(history)
    before = dict(assignments.by_id)
    assignments.assign(more, SHARE)
    assert {id_: assignments.by_id[id_] for id_ in before} == before


@given(UNIQUE_RECORDS, st.sampled_from([0.0, 0.001, 0.5, 0.999, 1.0]))
def test_a_set_of_two_or_more_has_both_sides(records: dict[str, str], share: float) -> None:
    sides = Assignments().assign(records, share)
    assert len(set(sides.values())) == min(2, len(records))
    if share in (0.0, 1.0) and len(records) > 1:
        lonely = "val" if share == 0.0 else "train"
        assert list(sides.values()).count(lonely) == 1


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_the_share_of_validation_is_as_asked(share: float) -> None:
    records = {f"pubmed:{number}": text_hash(f"text {number}") for number in range(20_000)}
    sides = list(Assignments().assign(records, share).values())
    assert abs(sides.count("val") / len(sides) - share) < 0.01


def test_a_side_stays_the_same_for_ever() -> None:
    # Another hash would put what older models were trained on into validation.
    assert [side_of(f"content {number}", 0.5) for number in range(8)] == [
        "train",
        "val",
        "val",
        "train",
        "train",
        "train",
        "train",
        "val",
    ]


def test_the_table_survives_a_reload_and_keeps_every_run_before(tmp_path: Path) -> None:
    path = tmp_path / "state" / "assignments.jsonl"
    with AssignmentTable(path) as assignments:
        first = assignments.assign({"a": "1", "b": "2", "c": "3"}, SHARE)
        saved = assignments
    with AssignmentTable(path) as assignments:
        assert assignments == saved
        assert assignments.assign({"a": "corrected", "d": "2"}, SHARE) == {"a": first["a"], "d": first["b"]}
    with AssignmentTable(path) as assignments:
        assert assignments.by_id == {**first, "d": first["b"]}
        assert assignments.by_content["corrected"] == first["a"]


def fail_with(table: AssignmentTable) -> None:
    with table as assignments:
        assignments.assign({"a": "1", "b": "2"}, SHARE)
        raise KeyError


def test_a_run_that_fails_writes_nothing_down_and_lets_the_next_one_in(tmp_path: Path) -> None:
    path = tmp_path / "assignments.jsonl"
    with pytest.raises(KeyError):
        fail_with(AssignmentTable(path))
    assert not path.exists()
    (tmp_path / ".assignments.jsonl.1.part").write_bytes(b"of a killed writer")
    with AssignmentTable(path) as assignments:
        assert assignments == Assignments()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["assignments.jsonl", "assignments.jsonl.lock"]


def test_every_set_gets_a_file_for_each_side(tmp_path: Path) -> None:
    records = {f"a:{number}": str(number) for number in range(20)}
    entry, removed = split_set("alpaca", rows_of(records), SHARE, Assignments(), tmp_path)
    train, val = (list(read_json_lines(tmp_path / side / "alpaca.jsonl")) for side in ("train", "val"))
    assert entry.to_row() == {"step": "split alpaca", "in": 20, "out": 20, "dropped": {}}
    assert removed == []
    assert train
    assert val
    assert {row["id"]: row["content"] for row in [*train, *val]} == records
    assert all(row.keys() == {"id", "messages", "content"} for row in [*train, *val])


def test_a_set_of_one_record_is_left_out_with_the_reason(tmp_path: Path) -> None:
    assignments = Assignments()
    entry, removed = split_set("docx", rows_of({"docx:1": "1"}), SHARE, assignments, tmp_path)
    assert entry.to_row() == {"step": "split docx", "in": 1, "out": 0, "dropped": {"set of one record": 1}}
    assert removed == [{"id": "docx:1", "step": "split docx", "reason": "set of one record"}]
    assert [(tmp_path / side / "docx.jsonl").read_bytes() for side in ("train", "val")] == [b"", b""]
    assert assignments == Assignments()
