from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.errors import LedgerError, MedllmError, UnreadableFileError
from medllm_ops.records import (
    Dialogue,
    Document,
    LedgerEntry,
    Message,
    Preference,
    Reject,
    record_to_row,
)

COUNTS = st.integers(min_value=0, max_value=10**9)
DROPS = st.dictionaries(st.text(min_size=1), COUNTS, max_size=4)


@given(out=COUNTS, dropped=DROPS, difference=st.integers(min_value=-3, max_value=3))
def test_a_ledger_passes_exactly_if_in_is_out_plus_dropped(out: int, dropped: dict[str, int], difference: int) -> None:
    entry = LedgerEntry("step", out + sum(dropped.values()) + difference, out, Counter(dropped))
    if difference == 0:
        assert entry.check() is entry
    else:
        with pytest.raises(LedgerError):
            entry.check()


@given(rows_in=COUNTS, out=COUNTS, dropped=DROPS)
def test_a_ledger_survives_its_json(rows_in: int, out: int, dropped: dict[str, int]) -> None:
    entry = LedgerEntry("a step", rows_in, out, Counter(dropped))
    assert LedgerEntry.from_row(orjson.loads(orjson.dumps(entry.to_row()))) == entry


def test_a_ledger_that_does_not_balance_names_step_counts_and_reasons() -> None:
    entry = LedgerEntry("convert pubmed", rows_in=5, rows_out=1)
    entry.drop("no abstract", 2)
    entry.drop("broken record")
    with pytest.raises(LedgerError, match=r"^step convert pubmed does not balance: 5 in, 1 out, 3 dropped") as caught:
        entry.check()
    assert str(caught.value).endswith("(broken record: 1, no abstract: 2)")
    with pytest.raises(LedgerError, match=r"0 dropped \(none\)"):
        LedgerEntry("split", rows_in=1).check()


def test_the_json_of_a_ledger_has_the_names_that_other_programs_rely_on() -> None:
    entry = LedgerEntry("s", 3, 1)
    entry.drop("b")
    entry.drop("a")
    assert orjson.dumps(entry.to_row()) == b'{"step":"s","in":3,"out":1,"dropped":{"a":1,"b":1}}'


def test_a_document_becomes_one_assistant_turn() -> None:
    document = Document(id="pubmed:1", source="pubmed", language="en", title="T", text="T\nA", url="u", version=3)
    row = record_to_row(document)
    assert row == {
        "id": "pubmed:1",
        "messages": [{"role": "assistant", "content": "T\nA"}],
        "source": "pubmed",
        "language": "en",
        "title": "T",
        "url": "u",
        "licence": "",
        "version": 3,
        "retracted": False,
    }


def test_only_a_preference_has_a_rejected_response() -> None:
    turns = (Message("user", "q"), Message("assistant", "a"))
    dialogue = Dialogue(id="a:1", source="a", language="zh", messages=turns)
    preference = Preference(id="a:1", source="a", language="zh", messages=turns, rejected_response="bad")
    expected = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert record_to_row(dialogue)["messages"] == expected
    assert "rejected_response" not in record_to_row(dialogue)
    assert record_to_row(preference) == {**record_to_row(dialogue), "rejected_response": "bad"}


def test_a_reject_can_always_be_written_and_its_excerpt_is_short() -> None:
    name = b"\xd6\xd0.txt".decode("utf-8", "surrogateescape")  # a file name in GBK, as Linux gives it out
    reject = Reject(file=name, position="member \ud800", reason="r", detail="\ud800", id="x:\udfff", excerpt="e" * 5000)
    row = orjson.loads(orjson.dumps(reject.to_row()))
    assert row == {
        "file": "??.txt",
        "position": "member ?",
        "id": "x:?",
        "reason": "r",
        "detail": "?",
        "excerpt": "e" * 200,
    }
    assert Reject(file="f", position="p", reason="r").to_row()["id"] is None


def test_every_error_for_users_is_one_sentence_with_the_file() -> None:
    error = UnreadableFileError("a/b.xml", "not a gzip file")
    assert str(error) == "a/b.xml: not a gzip file"
    assert (error.path, error.reason) == ("a/b.xml", "not a gzip file")
    assert issubclass(UnreadableFileError, MedllmError)
    assert issubclass(LedgerError, MedllmError)
