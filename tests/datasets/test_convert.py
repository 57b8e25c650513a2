from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.datasets.convert import Conversion, convert, convert_source
from medllm_ops.errors import LedgerError, MedllmError, UnreadableFileError
from medllm_ops.files import read_json_lines
from medllm_ops.records import Deletion, Document, Reject
from medllm_ops.sources.base import Parsed, Source

Items = dict[str, list[Parsed]]
Convert = Callable[..., Conversion]


def doc(id_: str, text: str = "text", version: int = 1) -> Document:
    return Document(id=f"s:{id_}", source="s", language="en", title="", text=text, version=version)


def deletion(id_: str) -> Deletion:
    return Deletion(id=f"s:{id_}", file="f", position="record 9")


def reject(reason: str) -> Reject:
    return Reject(file="f", position="p", reason=reason)


def make_source(items: Items, publisher_ids: bool) -> Source:
    """A source whose files hold what ``items`` says; a file that is not there cannot be read."""

    def parse(path: Path) -> Iterator[Parsed]:
        if path.name not in items:
            raise UnreadableFileError(path, "no such file")
        yield from items[path.name]

    return Source("s", "pretrain", "s", ("*",), parse, publisher_ids)


@pytest.fixture
def run(tmp_path: Path) -> Convert:
    def do(
        items: Items,
        *,
        publisher_ids: bool = True,
        order: Sequence[str] | None = None,
        out: str = "out",
        sample: int = 0,
    ) -> Conversion:
        files = [tmp_path / name for name in order or items]
        return convert(make_source(items, publisher_ids), files, tmp_path / out, sample)

    return do


def records(conversion: Conversion) -> list[tuple[str, str]]:
    rows = read_json_lines(conversion.directory / "records.jsonl")
    return [(row["id"].removeprefix("s:"), row["messages"][0]["content"]) for row in rows]


def rejects(conversion: Conversion) -> list[dict[str, Any]]:
    return list(read_json_lines(conversion.directory / "rejects.jsonl"))


def test_the_last_of_equal_versions_stays(run: Convert) -> None:
    conversion = run({"a": [doc("1", "old"), doc("2")], "b": [doc("1", "new")]})
    assert records(conversion) == [("2", "text"), ("1", "new")]
    assert conversion.ledger.to_row()["dropped"] == {"replaced by another version": 1}
    (row,) = rejects(conversion)
    assert (row["id"], row["position"]) == ("s:1", "record 1")
    assert row["file"].endswith("/a")
    assert row["detail"].endswith("/b, record 1")


def test_a_higher_version_stays_wherever_it_comes(run: Convert) -> None:
    conversion = run({"a": [doc("1", "third", 3)], "b": [doc("1", "first", 1), doc("1", "second", 2)]})
    assert records(conversion) == [("1", "third")]
    assert [(row["position"], row["detail"]) for row in rejects(conversion)] == [
        ("record 1", "by version 3"),
        ("record 2", "by version 3"),
    ]
    assert records(run({"a": [doc("1", "1", 1), doc("1", "3", 3), doc("1", "2", 2)]}, out="b")) == [("1", "3")]


def test_a_deletion_takes_out_what_came_before_it(run: Convert) -> None:
    conversion = run({"a": [doc("1"), doc("2")], "b": [deletion("1"), deletion("unknown")]})
    assert records(conversion) == [("2", "text")]
    assert conversion.ledger.to_row() == {
        "step": "convert s",
        "in": 4,
        "out": 1,
        "dropped": {"deleted by its publisher": 1, "deletion notice": 2},
    }
    assert [row["id"] for row in rejects(conversion)] == ["s:1", "s:1", "s:unknown"]


def test_a_record_can_come_back_after_its_deletion_even_with_a_lower_version(run: Convert) -> None:
    conversion = run({"a": [doc("1", "old", 5), deletion("1"), doc("1", "new", 1)], "b": [deletion("2"), doc("2")]})
    assert records(conversion) == [("1", "new"), ("2", "text")]
    assert conversion.ledger.dropped == {"deletion notice": 2, "deleted by its publisher": 1}


def test_rows_without_a_publishers_id_all_stay_under_ids_of_their_own(run: Convert) -> None:
    items: Items = {"a": [doc("x"), doc("x"), doc("y"), doc("x")], "b": [doc("x")]}
    conversion = run(items, publisher_ids=False)
    assert [id_ for id_, _ in records(conversion)] == ["x", "x-2", "y", "x-3", "x-4"]
    assert conversion.ledger.dropped == {}


def test_an_id_that_looks_like_a_copy_stays_its_own(run: Convert) -> None:
    conversion = run({"a": [doc("x"), doc("x-2"), doc("x"), doc("x-2"), doc("x")]}, publisher_ids=False)
    ids = [id_ for id_, _ in records(conversion)]
    assert ids[:2] == ["x", "x-2"]
    assert len(set(ids)) == 5


def test_an_unreadable_file_costs_one_reject_and_the_others_stay(run: Convert, tmp_path: Path) -> None:
    conversion = run({"a": [doc("1")], "b": [doc("2")]}, order=["a", "missing", "b"])
    assert records(conversion) == [("1", "text"), ("2", "text")]
    assert conversion.unreadable == (f"{tmp_path / 'missing'}: no such file",)
    (row,) = rejects(conversion)
    assert (row["position"], row["reason"], row["detail"]) == ("file", "unreadable file", "no such file")
    assert conversion.ledger.to_row() == {"step": "convert s", "in": 3, "out": 2, "dropped": {"unreadable file": 1}}
    # Found again, it still says so.
    again = run({"a": [doc("1")], "b": [doc("2")]}, order=["a", "missing", "b"])
    assert again.unreadable == conversion.unreadable


def test_a_text_that_is_not_unicode_costs_itself_only(run: Convert) -> None:
    for publisher_ids in (True, False):
        items: Items = {"a": [doc("1", "good"), doc("1", "bad \ud800"), doc("2", "good")]}
        conversion = run(items, publisher_ids=publisher_ids, out=str(publisher_ids))
        assert records(conversion) == [("1", "good"), ("2", "good")]
        assert conversion.ledger.dropped == {"text is not Unicode": 1}


def test_a_file_whose_name_is_not_utf_8_is_converted(run: Convert) -> None:
    name = b"\xd6\xd0.txt".decode("utf-8", "surrogateescape")
    conversion = run({name: [doc("1"), doc("1"), reject("r")]})
    assert records(conversion) == [("1", "text")]
    assert rejects(conversion)[0]["file"].endswith("/??.txt")


@pytest.mark.parametrize("publisher_ids", [True, False])
def test_a_sample_is_the_same_whatever_the_order_of_the_files(run: Convert, publisher_ids: bool) -> None:
    items: Items = {name: [doc(f"{name}{number}") for number in range(20)] for name in "abc"}
    one = run(items, publisher_ids=publisher_ids, sample=7, out="one")
    other = run(items, publisher_ids=publisher_ids, sample=7, out="other", order=["c", "a", "b"])
    assert len(records(one)) == 7
    assert sorted(records(one)) == sorted(records(other))
    assert one.ledger.to_row() == {"step": "convert s", "in": 60, "out": 7, "dropped": {"not in the sample": 53}}
    assert rejects(one) == []
    # A smaller sample is part of a larger one, and one that is large enough takes all.
    assert set(records(run(items, publisher_ids=publisher_ids, sample=3, out="less"))) < set(records(one))
    assert len(records(run(items, publisher_ids=publisher_ids, sample=60, out="all"))) == 60


def test_a_sample_is_drawn_from_what_is_left(run: Convert) -> None:
    conversion = run({"a": [doc("1"), doc("2"), doc("2", "new"), deletion("1"), doc("3")]}, sample=2)
    assert sorted(records(conversion)) == [("2", "new"), ("3", "text")]
    assert "not in the sample" not in conversion.ledger.dropped


def test_the_folder_holds_three_files_and_its_key(run: Convert) -> None:
    conversion = run({"a": [doc("1"), doc("1"), reject("no abstract")]})
    names = sorted(path.name for path in conversion.directory.iterdir())
    assert names == ["key.json", "ledger.json", "records.jsonl", "rejects.jsonl"]


def test_counts_that_do_not_match_the_files_are_an_error(run: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    from medllm_ops.datasets import convert as module

    monkeypatch.setattr(module, "count_lines", lambda path: 2 if path.name == "records.jsonl" else 0)
    with pytest.raises(LedgerError, match="step convert s does not balance: 1 in, 2 out"):
        run({"a": [doc("1")]})
    with pytest.raises(LedgerError, match="does not hold its 1 rejects"):
        run({"a": [doc("1"), reject("r")]}, out="other")


def test_a_full_disk_leaves_nothing(run: Convert, tmp_path: Path) -> None:
    def full() -> Iterator[Parsed]:
        yield doc("1")
        raise OSError(28, "No space left on device")

    source = Source("s", "pretrain", "s", ("*",), lambda _path: full())
    with pytest.raises(OSError, match="No space left"):
        convert(source, [tmp_path / "a"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_same_files_are_converted_once(run: Convert, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = (run({"a": [doc("1")]}).directory / "records.jsonl").read_bytes()
    assert (run({"a": [doc("2")]}).directory / "records.jsonl").read_bytes() == before  # not even parsed
    (tmp_path / "a").write_bytes(b"2")
    assert records(run({"a": [doc("2")]})) == [("2", "text")]
    (tmp_path / "a.md5").write_bytes(b"a checksum that was put right")
    assert records(run({"a": [doc("3")]})) == [("3", "text")]


def test_a_source_without_one_good_record_is_an_error_that_says_why(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("no JSON\n" * 3)
    with pytest.raises(MedllmError, match=r"source alpaca: no good record in 1 files; dropped: {'not JSON': 3}"):
        convert_source("alpaca", [str(rows)], str(tmp_path / "out"))
    assert len(list(read_json_lines(tmp_path / "out" / "rejects.jsonl"))) == 3
    rows.write_text('{"instruction": "What is ginseng?", "output": "A root."}\n')
    assert convert_source("alpaca", [str(rows)], str(tmp_path / "out")) == {
        "directory": str(tmp_path / "out"),
        "step": "convert alpaca",
        "in": 1,
        "out": 1,
        "dropped": {},
    }


IDS = st.sampled_from(["1", "1-2", "2", "2-2", "3"])
ITEMS = st.one_of(
    st.builds(doc, IDS, st.text(max_size=3), st.integers(1, 3)),
    st.builds(deletion, IDS),
    st.builds(reject, st.sampled_from(["no abstract", "broken record"])),
)


def expected(items: list[Parsed]) -> dict[str, str]:
    """What stays of a publisher's items, found the slow way."""
    alive: dict[str, Document] = {}
    for item in items:
        if isinstance(item, Deletion):
            alive.pop(item.id, None)
        elif isinstance(item, Document) and (item.id not in alive or alive[item.id].version <= item.version):
            alive[item.id] = item
    return {id_.removeprefix("s:"): document.text for id_, document in alive.items()}


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(ITEMS, max_size=8), min_size=1), st.booleans(), st.integers(0, 4)
)
def test_whatever_comes_the_ledger_balances_and_ids_are_unique(
    tmp_path_factory: pytest.TempPathFactory, items: Items, publisher_ids: bool, sample: int
) -> None:
    folder = tmp_path_factory.mktemp("hypothesis")
    conversion = convert(make_source(items, publisher_ids), [folder / name for name in items], folder / "out", sample)
    everything = [item for parsed in items.values() for item in parsed]
    ledger = conversion.ledger.check()
    found = records(conversion)
    assert ledger.rows_in == len(everything)
    assert ledger.rows_out == len(found) == len({id_ for id_, _ in found})
    assert len(rejects(conversion)) == ledger.dropped.total() - ledger.dropped["not in the sample"]
    if publisher_ids:
        assert set(found) <= set(expected(everything).items())
        assert len(found) == min(sample or len(everything), len(expected(everything)))
