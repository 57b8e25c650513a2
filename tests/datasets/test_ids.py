from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.frozen import freeze
from medllm_ops.curation.write.index import forms, hash_of, hashes_of, line_ids
from medllm_ops.datasets.ids import Index, held, read_index, records_of
from medllm_ops.datasets.store import Dataset
from medllm_ops.errors import MedllmError
from medllm_ops.files import to_json_line

pytestmark = pytest.mark.usefixtures("own_home")


def index_of(dataset: Dataset, side: str = "train") -> Index:
    return next(index for index in read_index(dataset) if index.side == side)


def holds(dataset: Dataset, *ids: str) -> list[bool]:
    return index_of(dataset).has(hashes_of(ids)).tolist()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("toy:1", ["toy:1"]),
        ("toy:1#2", ["toy:1#2", "toy:1"]),
        ("toy:1@2", ["toy:1@2", "toy:1"]),
        ("toy:1@2#3", ["toy:1@2#3", "toy:1@2", "toy:1"]),
        ("toy:1#2@3", ["toy:1#2@3", "toy:1#2"]),
        ("toy:1#", ["toy:1#"]),
        ("#1", ["#1"]),
        ("a@b", ["a@b"]),
    ],
)
def test_forms_of_an_id(line: str, expected: list[str]) -> None:
    assert forms(line) == expected


def test_chunks_and_repeats_are_their_record_and_a_publishers_own_sign_is_not() -> None:
    rows = {"toy:1#1": "a", "toy:1#2": "b", "toy:2@2": "c", "toy:2": "c", "book#1": "d", "book#2#1": "e"}
    dataset = freeze("med", 1, {"toy": rows}, {}, records={"toy:1", "toy:2", "book#1", "book#2"})
    assert holds(dataset, "toy:1", "toy:2", "book#1", "book#2") == [True] * 4
    assert holds(dataset, "toy:1#1", "toy:2@2", "book", "book#2#1") == [False] * 4
    assert records_of(dataset) == {"train": 4, "val": 0}


def test_without_knowledge_of_records_nothing_is_missed() -> None:
    dataset = freeze("med", 1, {"toy": {"toy:1#1": "a", "book#1": "d"}}, {})
    assert holds(dataset, "toy:1", "toy:1#1", "book", "book#1", "other") == [True, True, True, True, False]


def test_a_dataset_without_an_index_is_read() -> None:
    with_it = freeze("one", 1, {"toy": {"toy:1": "a", "toy:2": "b"}}, {"toy": {"toy:3": "c"}})
    without = freeze("two", 1, {"toy": {"toy:1": "a", "toy:2": "b"}}, {"toy": {"toy:3": "c"}}, index=False)
    for one, other in zip(read_index(with_it), read_index(without), strict=True):
        assert (one.side, one.source) == (other.side, other.source)
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.texts, other.texts)


def test_the_sum_of_texts_does_not_follow_the_order_and_follows_each_text() -> None:
    rows = {"toy:1#1": "a", "toy:1#2": "b"}
    one = index_of(freeze("one", 1, {"toy": rows}, {}, records={"toy:1"}))
    two = index_of(freeze("two", 1, {"toy": dict(reversed(rows.items()))}, {}, records={"toy:1"}))
    other = index_of(freeze("other", 1, {"toy": rows | {"toy:1#2": "c"}}, {}, records={"toy:1"}))
    assert one.texts.tolist() == two.texts.tolist() != other.texts.tolist()


def test_a_damaged_index_is_named() -> None:
    dataset = freeze("med", 1, {"toy": {"toy:1": "a"}}, {})
    path = dataset.directory / "ids" / "train" / "toy.npy"
    path.write_bytes(b"nothing")
    with pytest.raises(MedllmError, match=r"toy\.npy is damaged"):
        list(read_index(dataset))
    np.save(path, np.zeros(3))
    with pytest.raises(MedllmError, match="is no index"):
        list(read_index(dataset))


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id":"a","messages":[]}\n{"no":1}\n')
    with pytest.raises(MedllmError, match="line 2, is no row"):
        list(line_ids(path))


@given(st.lists(st.text()))
def test_any_id_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_bytes(b"".join(to_json_line({"id": one, "messages": []}) for one in ids))
    assert [name for name, _ in line_ids(path)] == ids


@given(st.sets(st.integers(0, 50)), st.lists(st.integers(0, 50)))
def test_held(ascending: set[int], wanted: list[int]) -> None:
    found = held(np.array(sorted(ascending), np.uint64), np.array(wanted, np.uint64))
    assert found.tolist() == [one in ascending for one in wanted]


def test_hashes_are_stable() -> None:
    assert hash_of("pubmed:31408116") == int(hashes_of(["pubmed:31408116"])[0]) == 1379750561942845634
