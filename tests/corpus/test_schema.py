"""A row of the corpus is the record again that it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.corpus.items import read_chunks, write_items
from medllm_ops.corpus.schema import CONTENT_NAMES, RECORDS, SCHEMAS, to_record
from medllm_ops.records import Dialogue, Document, Message, Preference

TEXT = st.text(max_size=30)
COMMON = {
    "id": TEXT.map("toy:{}".format),
    "source": st.just("toy"),
    "language": st.sampled_from(["en", "zh", ""]),
    "title": TEXT,
    "url": TEXT,
    "licence": TEXT,
    "version": st.integers(0, 2**31 - 1),
    "retracted": st.booleans(),
}
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1, max_size=4
).map(tuple)
RECORD = st.one_of(
    st.builds(Document, text=TEXT, **COMMON),
    st.builds(Dialogue, messages=MESSAGES, **COMMON),
    st.builds(Preference, messages=MESSAGES, rejected_response=TEXT, **COMMON),
)


@given(st.lists(RECORD, min_size=1, max_size=5))
def test_records_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, records: list[Document | Dialogue | Preference]
) -> None:
    path = Path(tmp_path_factory.getbasetemp(), "items")
    write_items(records, path)
    rows = [row for chunk in read_chunks(path) for row in chunk.columns(CONTENT_NAMES).to_pylist()]
    assert [to_record(row, "toy") for row in rows] == records


def test_the_table_of_records_has_the_content_first() -> None:
    assert RECORDS.names[: len(CONTENT_NAMES)] == CONTENT_NAMES
    assert set(SCHEMAS) == {"records", "events", "files", "rejects", "members"}
