import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Reject
from medllm_ops.sources import alpaca
from medllm_ops.sources.row import Row
from medllm_ops.sources.rows import read_rows

ROWS = [
    {"instruction": "什么是感冒？", "output": "一种常见病。\n多休息。"},
    {"instruction": 'What is "fever"?', "output": "A raised temperature, often."},
    {"instruction": "头痛，怎么办", "output": "休息\r\n喝水"},
    {"instruction": "plain", "output": "text"},
    {"instruction": "咳嗽", "output": "多喝水，\n注意保暖。\n\n必要时就医。"},
    {"instruction": "last", "output": "row"},
]


def written(rows: list[dict[str, str]] = ROWS) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["instruction", "output"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read(tmp_path: Path, data: bytes | str) -> list[Row | Reject]:
    path = tmp_path / "rows.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_rows(path))


def rows_of(found: list[Row | Reject]) -> list[dict]:
    return [row.data for row in found if isinstance(row, Row)]


def rejects_of(found: list[Row | Reject]) -> list[tuple[str, str]]:
    return [(row.position, row.reason) for row in found if isinstance(row, Reject)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk"])
def test_quoted_newlines_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    found = read(tmp_path, written().encode(encoding))
    assert rows_of(found) == ROWS
    assert [row.position for row in found] == ["line 2", "line 4", "line 5", "line 7", "line 8", "line 12"]


def test_empty_cells_blank_lines_and_empty_cells_too_many(tmp_path: Path) -> None:
    found = read(tmp_path, "\nsystem,instruction,output\n\n,a,b\n  \nS,c,d,,\n")
    assert rows_of(found) == [{"instruction": "a", "output": "b"}, {"system": "S", "instruction": "c", "output": "d"}]


def test_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, "instruction,output\n1,3.30\n")) == [{"instruction": "1", "output": "3.30"}]


def test_lists_are_json(tmp_path: Path) -> None:
    found = read(tmp_path, 'query,response,history\nq,r,"[[""a"",""b""]]"\nq,r,[not json\n')
    assert [row["history"] for row in rows_of(found)] == [[["a", "b"]], "[not json"]


def test_wrong_number_of_cells(tmp_path: Path) -> None:
    found = read(tmp_path, 'instruction,output\na,b\nonly one\n"two\nlines",x,y\nc,d\n')
    assert rejects_of(found) == [("line 3", "wrong number of cells"), ("line 4", "wrong number of cells")]
    assert [row["output"] for row in rows_of(found)] == ["b", "d"]


def test_a_missing_quote_costs_its_own_row_only(tmp_path: Path) -> None:
    # The record of two lines loses its closing quote and runs on into the next quoted one.
    broken = written().replace('多休息。"', "多休息。")
    found = read(tmp_path, broken)
    assert rows_of(found) == ROWS[1:]
    assert rejects_of(found) == [("line 2", "broken quotes")]
    assert isinstance(found[0], Reject)
    assert found[0].detail.endswith("; lines 2 to 3")


def test_a_quote_that_never_closes_does_not_swallow_the_file(tmp_path: Path) -> None:
    rows = [f"q{n},a{n}" for n in range(50)]
    rows[10] = '"q10,a10'
    found = read(tmp_path, "instruction,output\n" + "\n".join(rows) + "\n")
    assert len(rows_of(found)) == 49
    assert rejects_of(found) == [("line 12", "broken quotes")]


def test_a_file_cut_off_inside_a_quoted_row(tmp_path: Path) -> None:
    whole = written(ROWS[:5])
    found = read(tmp_path, whole[: whole.index("必要")])
    assert rows_of(found) == ROWS[:4]
    assert rejects_of(found) == [("line 8", "broken quotes")]


def test_the_rest_of_a_broken_row_is_no_row(tmp_path: Path) -> None:
    found = read(tmp_path, 'instruction,output\n"one"x\ntwo", three\n"a\nb"c\nd",e\n')
    assert rows_of(found) == []
    assert rejects_of(found) == [("line 2", "broken quotes"), ("line 4", "broken quotes")]


def test_a_row_of_5_mb(tmp_path: Path) -> None:
    large = "x" * (5 << 20)
    found = read(tmp_path, f"instruction,output\na,b\n{large},y\nc,d\n")
    assert [row["output"] for row in rows_of(found)] == ["b", "d"]
    assert rejects_of(found) == [("line 3", "row too large")]
    # Over the limit in many lines: the quote is taken for the damage, its lines for none.
    many = "\n".join(["line without a comma" * 20] * 2_500)
    found = read(tmp_path, f'instruction,output\na,b\n"{many}\nc,d\n')
    assert [row["output"] for row in rows_of(found)] == ["b", "d"]
    assert rejects_of(found) == [("line 3", "broken quotes")]


@pytest.mark.parametrize("end", ["\nc,d\n", "\r\nc,d", '\nc,d\n"e\nf",g\n'])
def test_a_row_of_5_mb_in_many_lines_is_one_reject(tmp_path: Path, end: str) -> None:
    large = 'a ""line""\n\n' * (5 << 17)
    found = read(tmp_path, f'instruction,output\na,b\nlong,"{large}"{end}')
    assert rejects_of(found) == [("line 3", "row too large")]
    assert [row["output"] for row in rows_of(found)][:2] == ["b", "d"]
    assert [row.position for row in found][2:] == [f"line {number + (10 << 17)}" for number in (4, 5)][: len(found) - 2]


def test_a_cell_that_is_not_in_the_encoding(tmp_path: Path) -> None:
    found = read(tmp_path, written().encode().replace("头".encode(), b"\xe5\xa4"))
    assert rows_of(found) == ROWS[:2] + ROWS[3:]
    assert rejects_of(found) == [("line 5", "not UTF-8")]


def test_a_damaged_byte_in_the_header_costs_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"instruction,output,\xffept\nq1,a1,x\nq2,,x\nq3,a3,x\n")
    records = list(alpaca.SOURCE.parse(path))
    assert [getattr(record, "reason", "") for record in records] == ["", "empty turn", ""]
    assert '"?ept":"x"' in getattr(records[1], "excerpt", "")


def test_line_ends_of_cr_alone_are_named(tmp_path: Path) -> None:
    rows = "".join(f"q{number},a{number}\r" for number in range(200_000))
    for data in ("instruction,output\ra,b\r", f"instruction,output\r{rows}"):
        with pytest.raises(UnreadableFileError, match="its lines end in CR alone; save it with LF or CR LF"):
            read(tmp_path, data)


def test_a_broken_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no CSV header"):
        read(tmp_path, '"instruction"x,output\na,b\n')


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"]),
    where=st.floats(0, 1),
    length=st.integers(1, 30),
    value=st.one_of(st.sampled_from(b'",\n\r'), st.integers(0, 255)),
)
def test_one_mutation_leaves_the_rows_before_it(
    tmp_path: Path, mutate: Callable, kind: str, where: float, length: int, value: int
) -> None:
    whole = written().encode()
    header = whole.index(b"\n") + 1
    body, start, _ = mutate(whole[header:], kind, where, length, value)
    found = read(tmp_path, whole[:header] + body)
    # Rows end where the next begins; the row that holds the mutation, and the one whose end it touches, may change.
    ends = [len(written(ROWS[: n + 1]).encode()) - header for n in range(len(ROWS))]
    before = sum(end <= start for end in ends)
    assert [row.data for row in found[:before] if isinstance(row, Row)] == ROWS[:before]
    (tmp_path / "rows.csv").write_bytes(whole[:header] + body)
    assert len(list(alpaca.SOURCE.parse(tmp_path / "rows.csv"))) == len(found)


def test_one_stray_quote_anywhere_loses_two_rows_at_most(tmp_path: Path) -> None:
    whole = written()
    header = whole.index("\n") + 1
    for place in range(header, len(whole)):
        found = rows_of(read(tmp_path, whole[:place] + '"' + whole[place:]))
        assert sum(row in found for row in ROWS) >= len(ROWS) - 2, place
