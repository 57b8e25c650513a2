from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from medllm_ops.curation.parts import parts, rows_of, staying
from medllm_ops.errors import UnreadableFileError
from medllm_ops.files import write_json_lines

ROW = {"id": "r:1", "messages": [{"role": "assistant", "content": "桂枝"}]}


class Settings(BaseModel):
    pass


def read(path: Path, folder: Path, size: int = 1000) -> list[tuple[int, dict[str, Any]]]:
    return [found for job in parts({"a": path}, folder, Settings(), size) for found in rows_of(job)]


@given(st.lists(st.text(max_size=30), max_size=12), st.integers(1, 400), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_of_any_size_hold_each_line_once(tmp_path: Path, texts: list[str], size: int, cut: bool) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{**ROW, "id": text.encode("utf-8", "replace").decode(), "version": 1} for text in texts]
    write_json_lines(path, rows)
    if cut:
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    found = read(path, tmp_path, size)
    assert [row for _, row in found] == rows
    whole = path.read_bytes()
    assert b"".join(staying(path, set())) == whole
    begins = [position for position, _ in found]
    lines = [whole[begin:end] for begin, end in pairwise([*begins, len(whole)])]
    assert list(staying(path, set(begins[::2]))) == lines[1::2]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"id": 5, "messages": []}',
        b'{"id": "a", "messages": [{"role": "user"}]}',
        b'{"id": "a", "messages": 7}',
        b'{"id": "a", "messages": [{"role": "user", "content": null}]}',
        b'{"id": "a", "messages": [], "version": "new"}',
        b"",
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [ROW])
    begin = path.stat().st_size
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UnreadableFileError, match=f"rows.jsonl: the line at byte {begin} is no record"):
        read(path, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="the rows of set a are missing"):
        parts({"a": tmp_path / "no.jsonl"}, tmp_path, Settings())
