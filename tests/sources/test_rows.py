import gzip
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Reject, record_to_row
from medllm_ops.sources import alpaca, messages
from medllm_ops.sources.row import ROW_LIMIT, Row
from medllm_ops.sources.rows import read_rows

QUESTIONS = (
    "什么是高血压？",
    "What is a fever?",
    "感冒了怎么办？\n要吃药吗",
    "Is 5 mg “enough”?",
    "头痛、发热如何处理",
)
ROWS = [
    {"instruction": question, "input": f"第{n}位患者", "output": f"答复 {n}: rest, and water – 多喝水。"}
    for n, question in enumerate(QUESTIONS * 2)
]
LINES = [orjson.dumps(row) + b"\n" for row in ROWS]


def read(tmp_path: Path, data: bytes, name: str = "rows.jsonl") -> list[Row | Reject]:
    path = tmp_path / name
    path.write_bytes(data)
    return list(read_rows(path))


def rows_of(found: list[Row | Reject]) -> list[dict]:
    return [row.data for row in found if isinstance(row, Row)]


def reasons(found: list[Row | Reject]) -> list[str]:
    return [row.reason for row in found if isinstance(row, Reject)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "ROWS.JSON"])
def test_lines_are_read_whatever_the_name_says(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, b"\n".join(LINES), name)  # with blank lines between
    assert rows_of(found) == ROWS
    assert found[1].position == "line 3"


@pytest.mark.parametrize(
    "data",
    [
        orjson.dumps(ROWS),
        orjson.dumps(ROWS, option=orjson.OPT_INDENT_2),
        b"\xef\xbb\xbf\n " + orjson.dumps(ROWS) + b"\n\n",
        b"[\n" + b",\n".join(LINES) + b"]",
        orjson.dumps(ROWS).decode().encode("gb18030"),
    ],
    ids=["one line", "indented", "byte order mark", "a row a line", "gb18030"],
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_array_is_read_row_by_row(tmp_path: Path, data: bytes, name: str) -> None:
    found = read(tmp_path, data, name)
    assert rows_of(found) == ROWS
    assert found[2].position == "row 3"


def test_objects_over_several_lines(tmp_path: Path) -> None:
    data = b"\n".join(orjson.dumps(row, option=orjson.OPT_INDENT_2) for row in ROWS)
    assert rows_of(read(tmp_path, data)) == ROWS


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8-sig", "utf-8"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert rows_of(read(tmp_path, b"".join(LINES).decode().encode(encoding))) == ROWS


def test_one_damaged_line_does_not_change_the_encoding_of_the_others(tmp_path: Path) -> None:
    damaged = LINES[0].replace("高".encode(), b"\xe9\xab")
    found = read(tmp_path, damaged + b"".join(LINES[1:]))
    assert rows_of(found) == ROWS[1:]
    assert reasons(found) == ["not UTF-8"]
    chinese = [line.decode().encode("gb18030") for line in LINES]
    found = read(tmp_path, chinese[0].replace("高".encode("gb18030"), b"\xff") + b"".join(chinese[1:]))
    assert rows_of(found) == ROWS[1:]
    assert reasons(found) == ["not UTF-8"]


def test_utf_16_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="UTF-16; save it as UTF-8"):
        read(tmp_path, b"".join(LINES).decode().encode("utf-16"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b"".join(LINES)), "a gzip file; unpack it first"),
        (b"PK\x03\x04\x14\0", "a zip or Office file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a file of an old Office"),
        (b"PAR1\x15\x04", "a Parquet file; write its rows as JSON lines"),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_what_is_no_text_is_refused_in_words(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read(tmp_path, data, name)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_files_joined_with_their_byte_order_marks(tmp_path: Path, name: str, encoding: str) -> None:
    lines = [line.decode() for line in LINES[:2]]
    text = "\ufeff" + "\ufeff".join(lines)
    if name == "rows.csv":
        text = "\ufeffinstruction,output\nq,a\n\ufeffq,a\n"
    elif name == "rows.json":
        text = "\ufeff".join(orjson.dumps(row, option=orjson.OPT_INDENT_2).decode() for row in ROWS[:2])
    found = read(tmp_path, text.encode(encoding), name)
    assert reasons(found) == []
    assert rows_of(found) == ([{"instruction": "q", "output": "a"}] * 2 if name == "rows.csv" else ROWS[:2])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file"):
        list(read_rows(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_an_empty_file_is_one_reject(tmp_path: Path, name: str, data: bytes) -> None:
    assert reasons(read(tmp_path, data, name)) == ["empty file"]


@pytest.mark.parametrize(("name", "data"), [("rows.json", b"[]"), ("rows.csv", b"instruction,output\n")])
def test_a_file_without_rows(tmp_path: Path, name: str, data: bytes) -> None:
    assert reasons(read(tmp_path, data, name)) == ["no rows in file"]


def test_broken_lines_cost_one_reject_each(tmp_path: Path) -> None:
    found = read(tmp_path, LINES[0] + b"{broken\n" + b"[1, 2]\n" + b'{"a": NaN}\n' + LINES[1] + LINES[2][:40])
    assert rows_of(found) == ROWS[:2]
    assert [(row.position, row.reason) for row in found if isinstance(row, Reject)] == [
        ("line 2", "not JSON"),
        ("line 3", "not an object"),
        ("line 4", "not JSON"),
        ("line 6", "file cut off"),
    ]
    assert found[1].excerpt.startswith("{broken")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_lost_line_end_costs_no_whole_row(tmp_path: Path, encoding: str) -> None:
    one, two, three = (line.decode().encode(encoding) for line in LINES[:3])
    found = read(tmp_path, one.strip() + two + three.strip() + b" " + one + two)
    assert rows_of(found) == [*ROWS[:3], *ROWS[:2]]
    assert [row.position for row in found] == ["line 1", "line 1", "line 2", "line 2", "line 3"]
    found = read(tmp_path, one + two + three[: three.index(b"output")] + one + two)
    assert rows_of(found) == [*ROWS[:2], *ROWS[:2]]
    assert reasons(found) == ["not JSON"]


@pytest.mark.parametrize("last", [b"\0" * 50, b'{"a": 1}\r{"a": 2}', b"no row"])
def test_a_last_line_that_is_no_beginning_of_a_row_is_not_cut_off(tmp_path: Path, last: bytes) -> None:
    assert reasons(read(tmp_path, LINES[0] + LINES[1] + last)) == ["not JSON"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_row_of_5_mb_is_rejected_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    large = orjson.dumps({"instruction": "x" * (5 << 20), "output": "y"})
    data = b"[" + b",".join([LINES[0], large, *LINES[1:]]) + b"]"
    if name == "rows.jsonl":
        data = LINES[0] + large + b"\n" + b"".join(LINES[1:])
    found = read(tmp_path, data, name)
    assert rows_of(found) == ROWS
    assert reasons(found) == ["row too large"]
    assert len(found[1].excerpt) <= 200


def test_the_limit_itself(tmp_path: Path) -> None:
    line = b'{"a": "' + b"x" * (ROW_LIMIT - 9) + b'"}'
    assert len(line) == ROW_LIMIT
    assert reasons(read(tmp_path, line + b"\n")) == []
    assert reasons(read(tmp_path, line.replace(b"x", b"xx", 1) + b"\n")) == ["row too large"]


def test_an_array_cut_off_keeps_what_came_before(tmp_path: Path) -> None:
    whole = orjson.dumps(ROWS)
    found = read(tmp_path, whole[:-30], "rows.json")
    assert rows_of(found) == ROWS[:-1]
    assert reasons(found) == ["file cut off"]
    found = read(tmp_path, whole[:-1], "rows.json")
    assert rows_of(found) == ROWS
    assert reasons(found) == ["file cut off"]


def test_an_array_goes_on_after_a_broken_row(tmp_path: Path) -> None:
    dialogues = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(6)
    ]
    parts = [orjson.dumps(row) for row in dialogues]
    parts[2] = parts[2].replace(b'"q2"', b'"q2')
    found = read(tmp_path, b"[" + b",".join(parts) + b"]", "rows.json")
    assert rows_of(found) == dialogues[:2] + dialogues[3:]
    assert [(row.position, row.reason) for row in found if isinstance(row, Reject)] == [("row 3", "not JSON")]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_row_with_another_first_key_behind_damage_is_not_lost(tmp_path: Path, name: str) -> None:
    rows = [ROWS[0], ROWS[1], ROWS[2], {"system": "s"} | ROWS[3], ROWS[4], {"system": "t"} | ROWS[5], *ROWS[6:]]
    parts = [orjson.dumps(row) for row in rows]
    parts[2] = parts[2].replace(b'","input', b',"input')
    data = b"[" + b",\n".join(parts) + b"]"
    if name == "rows.jsonl":  # where the line ends between some of them were lost, too
        data = b"\n".join([*parts[:2], b"".join(parts[2:4]), b"".join(parts[4:6]), *parts[6:]])
    found = read(tmp_path, data, name)
    assert rows_of(found) == rows[:2] + rows[3:]
    assert reasons(found) == ["not JSON"]


def test_an_object_in_a_broken_row_is_no_row_for_its_first_key(tmp_path: Path) -> None:
    rows = [{"id": n, "sources": [{"id": 1, "name": "a"}], "instruction": "q", "output": "a"} for n in range(5)]
    rows = [{"instruction": row.pop("instruction"), **row} for row in rows]
    broken = orjson.dumps(rows[2]).replace(b'"q",', b'"q,')
    parts = [*map(orjson.dumps, rows[:2]), broken, *map(orjson.dumps, rows[3:])]
    found = read(tmp_path, b"[" + b",".join(parts) + b"]", "rows.json")
    assert rows_of(found) == rows[:2] + rows[3:]
    assert reasons(found) == ["not JSON"]


def test_a_row_of_an_array_is_found_behind_megabytes_of_damage(tmp_path: Path) -> None:
    other = {"system": "x" * (ROW_LIMIT - 1000)} | ROWS[3]
    damage = b'{"instruction": "' + b'"{"a":1},' + b"x" * (9 << 20)
    data = b"[" + b",".join([LINES[0], LINES[1], damage, orjson.dumps(other), LINES[4]]) + b"]"
    found = read(tmp_path, data, "rows.json")
    assert rows_of(found) == [ROWS[0], ROWS[1], other, ROWS[4]]
    assert reasons(found) == ["not JSON"]


def test_a_doubled_bracket_and_a_damaged_first_key_lose_no_other_row(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "a"}]} for n in range(4)
    ]
    whole = orjson.dumps(rows)
    found = read(tmp_path, b"[" + whole, "rows.json")
    assert rows_of(found) == rows
    assert reasons(found)[0] == "not JSON"
    # What is left of the first row is an object of its own; its key must not be taken for that of all rows.
    found = read(tmp_path, whole.replace(b'{"messages":[{"role"', b'{"messrole"', 1), "rows.json")
    assert rows_of(found)[1:] == rows[1:]
    assert reasons(found) == ["not JSON"]


def test_nesting_without_end_is_a_reject(tmp_path: Path) -> None:
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert reasons(read(tmp_path, deep + b"\n" + LINES[0])) == ["not JSON"]
    found = read(tmp_path, b"[" + b",".join([*LINES[:2], deep, LINES[2]]) + b"]", "rows.json")
    assert rows_of(found) == ROWS[:3]
    assert reasons(found) == ["not JSON"]


def test_a_row_nested_deeper_than_orjson_writes_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "", "output": "", "meta": ' + "[" * 300 + "]" * 300 + "}\n", encoding="utf-8")
    (found,) = alpaca.SOURCE.parse(path)
    assert isinstance(found, Reject)
    assert (found.reason, found.excerpt[:40]) == ("empty turn", '{"instruction":"","output":"","meta":[[[')


def test_rejects_can_be_written_as_utf_8(tmp_path: Path) -> None:
    for name, data in [
        ("a.json", b'[{"instruction": "\xff\xfe\xfd"}]'),
        ("b.csv", b"instruction,output\n\xff\xfa,b\n"),
    ]:
        found = read(tmp_path, data, name)
        assert reasons(found) == ["not UTF-8"]
        assert orjson.dumps(found[0].to_row())


def mutations() -> st.SearchStrategy[tuple[str, float, int, int]]:
    kinds = st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"])
    return st.tuples(kinds, st.floats(0, 1), st.integers(1, 60), st.integers(0, 255))


def outcome(path: Path) -> list[bytes]:
    """Records as they are written; rejects as their reason."""
    source = messages.SOURCE if path.stem == "messages" else alpaca.SOURCE
    return [
        f"reject: {item.reason}".encode() if isinstance(item, Reject) else orjson.dumps(record_to_row(item))
        for item in source.parse(path)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutation=mutations())
@example(mutation=("flip", 0.0, 1, ord("{") ^ ord("[")))
@example(mutation=("insert", 0.0, 1, ord("[")))
@example(mutation=("cut", 0.5, 1, 0))
@example(mutation=("insert", 0.001, 1, ord("\n")))
def test_one_mutation_leaves_the_other_lines_as_they_were(
    tmp_path: Path, mutate: Callable, encoding: str, mutation: tuple
) -> None:
    lines = [line.decode().encode(encoding) for line in LINES]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(lines))
    expected = outcome(path)
    data, start, stop = mutate(b"".join(lines), *mutation)
    path.write_bytes(data)
    found = outcome(path)
    offsets = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    before = sum(offsets[n + 1] <= start for n in range(len(lines)))
    after = sum(offsets[n] > stop for n in range(len(lines)))
    assert found[:before] == expected[:before]
    assert after == 0 or found[-after:] == expected[-after:]
    # A row behind damage in its own line is one more; after a line break inside the first object all are read as
    # objects over line ends, and none is broken.
    lines_left = sum(bool(line.strip()) for line in data.split(b"\n")) or 1
    assert len(found) in (lines_left, lines_left + 1, len(expected))


@pytest.mark.parametrize("name", ["rows.json", "messages.json"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutation=mutations())
def test_one_mutation_leaves_the_other_rows_of_an_array_as_they_were(
    tmp_path: Path, mutate: Callable, name: str, mutation: tuple
) -> None:
    rows: list[dict] = ROWS
    if name == "messages.json":
        turns = [("user", "问题"), ("assistant", "答"), ("user", "再问"), ("assistant", "再答")]
        rows = [{"messages": [{"role": r, "content": f"{c}{n}"} for r, c in turns]} for n in range(8)]
    parts = [orjson.dumps(row) for row in rows]
    whole = b"[" + b", ".join(parts) + b"]"
    path = tmp_path / name
    path.write_bytes(whole)
    expected = outcome(path)
    data, start, stop = mutate(whole, *mutation)
    path.write_bytes(data)
    found = outcome(path)
    ends = [whole.index(part) + len(part) for part in parts]
    before = sum(end <= start for end in ends)
    # The two bytes before a row are its separator: damage there is damage to the row.
    after = sum(whole.index(part) - 2 > stop for part in parts)
    assert found[:before] == expected[:before]
    tail = [item for item in found if not item.startswith(b"reject: ")]
    assert after == 0 or tail[-after:] == expected[-after:]
    assert len(found) <= len(expected) + 3  # a doubled slice may hold an end of the array
