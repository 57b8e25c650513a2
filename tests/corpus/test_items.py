"""What a parser yields reaches the writer as it was, in order, whatever is in it and however much it is."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pytest

from corpus.toys import Item, deletion, document, reject
from medllm_ops.corpus import items as items_module
from medllm_ops.corpus.items import DELETION, ITEMS, NOT_UNICODE, RECORD, REJECT, Chunk, read_chunks, write_items
from medllm_ops.datasets import convert
from medllm_ops.records import Deletion, Dialogue, Document, Message, Preference, Reject

SURROGATE = "broken \ud800 text"


def rows(path: Path) -> list[dict[str, object]]:
    """All items in the order of their numbers."""
    found = [row for chunk in read_chunks(path) for row in chunk.columns(ITEMS.names).to_pylist()]
    return sorted(found, key=lambda row: int(str(row["number"])))


def test_each_kind_of_item_is_a_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "items"
    write_items([document(1), deletion(2), reject(3, withdraws=7), reject(4), document(5)], path)
    assert [(row["number"], row["item"], row["id"], row["withdraws"]) for row in rows(path)] == [
        (1, RECORD, "toy:1", None),
        (2, DELETION, "toy:2", None),
        (3, REJECT, "toy:3", 7),
        (4, REJECT, "toy:4", None),
        (5, RECORD, "toy:5", None),
    ]
    assert rows(path)[2] | {"hash": 0} == dict.fromkeys(ITEMS.names) | {
        "number": 3, "item": REJECT, "id": "toy:3", "withdraws": 7, "hash": 0,
        "position": "somewhere", "reason": "no abstract", "detail": "", "excerpt": "",
    }  # fmt: skip


def test_nothing_is_nothing(tmp_path: Path) -> None:
    write_items([], tmp_path / "items")
    assert list(read_chunks(tmp_path / "items")) == []


MESSAGES = (Message("user", "a question"), Message("assistant", "an answer"))


@pytest.mark.parametrize(
    "broken",
    [
        document(1, SURROGATE),
        document(1, title=SURROGATE),
        document(1, url=SURROGATE),
        document(SURROGATE, title="t"),
        Dialogue(id="toy:1", source="toy", language="en", messages=(Message("user", SURROGATE),)),
        Preference(id="toy:1", source="toy", language="en", messages=MESSAGES, rejected_response=SURROGATE),
        deletion(SURROGATE),
    ],
    ids=["text", "title", "url", "id", "dialogue", "preference", "deletion"],
)
def test_what_is_not_unicode_is_one_reject(tmp_path: Path, broken: Item) -> None:
    path = tmp_path / "items"
    write_items([document(7), broken, document(8)], path)
    first, second, third = rows(path)
    assert (first["item"], third["item"]) == (RECORD, RECORD)
    assert (second["item"], second["reason"], second["withdraws"]) == (REJECT, NOT_UNICODE, None)
    assert second["position"] == ("somewhere" if isinstance(broken, Deletion) else "record 2")
    assert second["id"] == str(broken.id).replace("\ud800", "?")
    assert second["detail"]
    assert convert.NOT_UNICODE == NOT_UNICODE


def test_a_reject_may_say_what_is_not_unicode(tmp_path: Path) -> None:
    path = tmp_path / "items"
    fields = dict.fromkeys(("position", "reason", "detail", "id", "excerpt"), SURROGATE)
    write_items([Reject(file=SURROGATE, **fields)], path)  # type: ignore[arg-type]
    (row,) = rows(path)
    assert {row[name] for name in fields} == {"broken ? text"}


def test_content_makes_the_hash_and_its_place_matters(tmp_path: Path) -> None:
    path = tmp_path / "items"
    unlike = [
        document(1),
        document(1, "other"),
        document(1, title="other"),
        document(1, language="de"),
        document(1, url="u"),
        document(1, licence="u"),
        document(1, version=2),
        document(1, retracted=True),
        document(1, title="a\0b", text="c"),
        document(1, title="a", text="b\0c"),
        document(1, title="None", text="None"),
        Dialogue(id="toy:1", source="toy", language="en", messages=MESSAGES),
        Dialogue(id="toy:1", source="toy", language="en", messages=MESSAGES[:1]),
        Preference(id="toy:1", source="toy", language="en", messages=MESSAGES, rejected_response="a"),
        Preference(id="toy:1", source="toy", language="en", messages=MESSAGES, rejected_response="b"),
    ]
    write_items([*unlike, document(2)], path)
    hashes = [row["hash"] for row in rows(path)]
    assert len({*hashes[:-1]}) == len(unlike)
    write_items([document(2), document(2, title="title 1")], path)
    assert [row["hash"] for row in rows(path)] == [hashes[-1], hashes[0]]  # the id is no part of it


def batches(path: Path) -> list[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def test_batches_are_bounded_by_rows(tmp_path: Path) -> None:
    write_items((document(n) if n % 3 else deletion(n) for n in range(5000)), tmp_path / "items")
    assert {len(batch) for batch in batches(tmp_path / "items")} <= {*range(1, 1025)}
    assert len(rows(tmp_path / "items")) == 5000


@pytest.mark.parametrize("kind", ["document", "dialogue", "preference"])
def test_batches_are_bounded_by_bytes(tmp_path: Path, kind: str) -> None:
    huge = "很长的文字" * 200_000
    common = {"source": "toy", "language": "zh"}
    records: dict[str, Item] = {
        "document": Document(id="toy:1", title="", text=huge, **common),
        "dialogue": Dialogue(id="toy:1", messages=(Message("user", huge),), **common),
        "preference": Preference(id="toy:1", messages=MESSAGES, rejected_response=huge, **common),
    }
    write_items([records[kind]] * 8, tmp_path / "items")
    sizes = [batch.nbytes for batch in batches(tmp_path / "items")]
    assert len(sizes) == 4
    assert max(sizes) < 7_000_000


def test_chunks_are_bounded_and_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "_BATCH_ROWS", 10)
    monkeypatch.setattr(items_module, "_CHUNK_ROWS", 25)
    # Some batches have records only, so that a pair of batches does not always begin at an even one.
    write_items((deletion(n) if n % 7 == 0 and n > 40 else document(n) for n in range(200)), tmp_path / "items")
    numbers = [chunk.columns(["number"])["number"].to_pylist() for chunk in read_chunks(tmp_path / "items")]
    assert sorted(itertools.chain.from_iterable(numbers)) == [*range(1, 201)]
    assert len(numbers) > 5
    assert max(map(len, numbers)) < 25 + 10
    for before, after in itertools.pairwise(numbers):
        assert max(before) < min(after)


@pytest.fixture
def chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chunk:
    monkeypatch.setattr(items_module, "_BATCH_ROWS", 4)
    write_items([document(n) for n in range(10)], tmp_path / "items")
    (chunk,) = read_chunks(tmp_path / "items")
    return chunk


@pytest.mark.parametrize("wanted", [[], [0], [9], [3, 4], [0, 1, 2, 3], [*range(10)], [1, 5, 8, 9]])
def test_rows_of_a_chunk_by_their_positions(chunk: Chunk, wanted: list[int]) -> None:
    found = [row for batch in chunk.rows(["id", "title"], pa.array(wanted, pa.int64())) for row in batch.to_pylist()]
    assert found == [{"id": f"toy:{n}", "title": f"title {n}"} for n in wanted]
