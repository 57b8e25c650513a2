"""Every line that is read goes on or is dropped for a reason, whatever it is."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import made
from medllm_ops.curation import prepare as prepare_module
from medllm_ops.curation.lines import NO_FILE_NAME, NO_RECORD, NOT_JSON, read_line
from medllm_ops.curation.parts import parts
from medllm_ops.curation.prepare import prepare
from medllm_ops.curation.segment import Segment
from medllm_ops.curation.settings import CurationSettings, check_settings
from medllm_ops.curation.state.segment import INDEX
from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.files import read_json_lines

DEFAULTS = CurationSettings()


def index(segment: Segment) -> list[dict[str, Any]]:
    table = pq.read_table(segment.index)
    assert table.schema.equals(INDEX)
    return list(table.to_pylist())


def assert_sound(segment: Segment, lines: int) -> list[dict[str, Any]]:
    """A line of the index for each line; the places of those that go on are lines of their source's file."""
    table = index(segment)
    assert len(table) == lines
    bytes_ = {source: path.read_bytes() for source, path in segment.rows.items()}
    ends = dict.fromkeys(bytes_, 0)
    for entry in table:
        if entry["step"]:
            assert entry["reason"]
            assert (entry["begin"], entry["length"], entry["cut"]) == (None, None, None)
            continue
        assert entry["begin"] == ends[entry["source"]]
        ends[entry["source"]] += entry["length"]
        line = bytes_[entry["source"]][entry["begin"] :][: entry["length"]]
        assert line.endswith(b"}\n")
        row, exported = orjson.loads(line), orjson.loads(line[: entry["cut"]] + b"}")
        assert (row["id"], row["source"]) == (entry["id"], entry["source"])
        wanted = ("id", "messages", "rejected_response")
        assert list(exported.items()) == [(name, row[name]) for name in wanted if name in row]
        assert entry["characters"] == sum(len(turn["content"]) for turn in row["messages"])
    assert ends == {source: len(content) for source, content in bytes_.items()}
    return table


def test_rows_go_on_as_they_are(tmp_path: Path) -> None:
    good = made.rows(60)
    segment = prepare([made.write(tmp_path / "rows.jsonl", good)], tmp_path / "out", DEFAULTS)
    table = assert_sound(segment, len(good))
    assert [(entry["id"], entry["source"], entry["step"]) for entry in table] == [
        (row["id"], row["source"], None) for row in good
    ]
    assert {row["id"]: row for path in segment.rows.values() for row in read_json_lines(path)} == {
        row["id"]: row for row in good
    }
    assert {entry["licence"] for entry in table} == {"CC0-1.0"}


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.integers(0, 10**6))
def test_any_lines_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], seed: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    chance = random.Random(seed)
    all_lines: list[bytes | made.Row] = [*lines, *(made.spoiled(row, chance) for row in made.rows(4, seed))]
    chance.shuffle(all_lines)
    segment = prepare([made.write(folder / "rows.jsonl", all_lines)], folder / "out", DEFAULTS)
    assert_sound(segment, len(all_lines))


def test_ten_thousand_lines_with_a_fault_are_accounted_for(tmp_path: Path) -> None:
    chance = random.Random(5)
    good = made.rows(500)
    lines = [made.spoiled(chance.choice(good), chance) for _ in range(10_000)]
    segment = prepare([made.write(tmp_path / "rows.jsonl", lines)], tmp_path / "out", DEFAULTS)
    table = assert_sound(segment, 10_000)
    dropped = {(entry["step"], entry["reason"]) for entry in table if entry["step"]}
    assert {("read", NOT_JSON), ("read", NO_RECORD), ("read", NO_FILE_NAME), ("clean", "too short")} <= dropped
    assert 1_000 < sum(entry["step"] is None for entry in table) < 9_000
    assert {"made", "other", "中医", "new", "x"} < set(segment.rows)
    assert not {name for name in segment.rows if name.startswith((".", "-")) or set(name) & set("/ #\x00")}
    assert len(list(read_json_lines(segment.samples))) <= 5 * len(dropped)


def test_the_order_of_lines_the_division_and_the_workers_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    good = made.rows(300, seed=3)
    good[5]["messages"][-1]["content"] += " Call 13800138000 or write to a.person@example.org."
    lines: list[bytes] = [orjson.dumps(row) for row in good]
    bad = [made.row(f"made:short-{number}", number) for number in range(30)]
    for row in bad:
        row["messages"][0]["content"] = "Too short."
    lines += [orjson.dumps(row) for row in bad]
    one = prepare([made.write(tmp_path / "a" / "rows.jsonl", lines)], tmp_path / "one", DEFAULTS)
    chance.shuffle(lines)
    monkeypatch.setattr(prepare_module, "parts", partial(parts, size=20_000))
    other = prepare([made.write(tmp_path / "b" / "rows.jsonl", lines)], tmp_path / "other", DEFAULTS, worker_count=2)
    for segment in (one, other):
        assert_sound(segment, len(lines))

    def told(segment: Segment) -> Any:
        table = sorted(({**entry, "begin": None} for entry in index(segment)), key=lambda entry: str(entry["id"]))
        rows = {source: sorted(path.read_bytes().splitlines()) for source, path in segment.rows.items()}
        looked_at = [path.read_bytes() for path in (segment.review, segment.samples)]
        return table, rows, looked_at, segment.marks, segment.settings

    assert told(one) == told(other)
    assert len(list(read_json_lines(one.review))) == 2


def test_what_is_not_sound_has_a_reason_and_the_id_if_it_can_be_read() -> None:
    good = made.row("made:1", 1)
    for change, reason, sound in [
        ({"messages": []}, NO_RECORD, {"id": "made:1", "source": "made", "language": "en"}),
        ({"source": "../up"}, NO_FILE_NAME, {"id": "made:1", "language": "en"}),
        ({"id": "a\nb"}, NO_RECORD, {"source": "made", "language": "en"}),
        ({"id": 7}, NO_RECORD, {"source": "made", "language": "en"}),
        ({"version": 2**63}, NO_RECORD, {"id": "made:1", "source": "made", "language": "en"}),
        ({"version": True}, NO_RECORD, {"id": "made:1", "source": "made", "language": "en"}),
        ({"retracted": "yes"}, NO_RECORD, {"id": "made:1", "source": "made", "language": "en"}),
        ({"title": ["x"]}, NO_RECORD, {"id": "made:1", "source": "made", "language": "en"}),
    ]:
        row, fault = read_line(orjson.dumps({**good, **change}), marks := Counter())
        assert fault is not None
        assert fault.reason == reason
        assert row == sound
        assert not marks


def test_what_may_be_left_out_may(tmp_path: Path) -> None:
    short = {name: value for name, value in made.row("made:1", 1).items() if name in ("id", "messages", "source")}
    null = {**made.row("made:2", 2), "title": None, "version": None, "retracted": None, "rejected_response": None}
    extra = {**made.row("made:3", 3), "tools": []}
    extra["messages"][0]["loss"] = True
    lines = [b"\xef\xbb\xbf" + orjson.dumps(short), null, extra]
    segment = prepare([made.write(tmp_path / "rows.jsonl", lines)], tmp_path / "out", DEFAULTS)
    assert [entry["step"] for entry in assert_sound(segment, 3)] == [None] * 3
    first, second, third = read_json_lines(segment.rows["made"])
    assert first == {**short, "language": "", "title": "", "url": "", "licence": "", "version": 1, "retracted": False}
    assert (second["title"], second["version"], second["retracted"]) == ("", 1, False)
    assert "rejected_response" not in second
    assert third == made.row("made:3", 3)
    assert segment.marks["read"] == {"made": {"unknown field left out": 1}}


def test_retracted_rows_are_out(tmp_path: Path) -> None:
    lines = [made.row("made:1", 1, retracted=True), made.row("made:2", 2)]
    segment = prepare([made.write(tmp_path / "rows.jsonl", lines)], tmp_path / "out", DEFAULTS, gone=["made:9", "a b"])
    first, second = assert_sound(segment, 2)
    assert (first["id"], first["step"], first["reason"]) == ("made:1", "read", "retracted")
    assert (first["source"], first["licence"]) == ("made", "CC0-1.0")
    assert second["step"] is None
    assert list(segment.gone) == ["a b", "made:9"]


def test_steps_can_be_switched_off(tmp_path: Path) -> None:
    row = made.row("made:1", 1)
    row["messages"][0]["content"] = "Please call 13800138000 today."
    path = made.write(tmp_path / "rows.jsonl", [row])
    off = check_settings({"clean": {"enabled": False}, "scrub": {"enabled": False}}, "settings")
    segment = prepare([path], tmp_path / "off", off)
    assert list(read_json_lines(segment.rows["made"])) == [row]
    scrubbed = prepare([path], tmp_path / "scrub", check_settings({"clean": {"enabled": False}}, "settings"))
    (kept,) = read_json_lines(scrubbed.rows["made"])
    assert kept["messages"][0]["content"] == "Please call ⟨PHONE⟩ today."
    assert scrubbed.marks == {"scrub": {"made": {"PHONE": 1}}}
    assert segment.settings["fingerprint"] != scrubbed.settings["fingerprint"]


def test_what_is_shown_of_dropped_rows_has_no_personal_data(tmp_path: Path) -> None:
    row = made.row("made:1", 1)
    row["messages"][0]["content"] = "Call 13800138000."
    broken = orjson.dumps({**made.row("made:2", 2), "title": "a.person@example.org"})[:-3]
    off = check_settings({"scrub": {"enabled": False}}, "settings")
    segment = prepare([made.write(tmp_path / "rows.jsonl", [row, broken])], tmp_path / "out", off)
    shown = segment.samples.read_text(encoding="utf-8")
    assert "⟨PHONE⟩" in shown
    assert "13800138000" not in shown
    assert "a.person" not in shown
    assert {sample["reason"] for sample in read_json_lines(segment.samples)} == {"too short", NOT_JSON}


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = [made.write(tmp_path / name / "records.jsonl", [b"{", b"["]) for name in ("one", "two")]
    segment = prepare(files, tmp_path / "out", DEFAULTS)
    assert [entry["id"] for entry in assert_sound(segment, 4)] == [
        "one/records.jsonl:0",
        "one/records.jsonl:2",
        "two/records.jsonl:0",
        "two/records.jsonl:2",
    ]
    assert {entry["source"] for entry in index(segment)} == {""}
    assert [entry["file"] for entry in segment.settings["inputs"]] == ["one/records.jsonl", "two/records.jsonl"]
    with pytest.raises(MedllmError, match="is named twice"):
        prepare([files[0], tmp_path / "two" / ".." / "one" / "records.jsonl"], tmp_path / "twice", DEFAULTS)
    with pytest.raises(UnreadableFileError, match=r"nowhere\.jsonl"):
        prepare([tmp_path / "nowhere.jsonl"], tmp_path / "none", DEFAULTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]


def test_an_empty_file_is_an_empty_segment(tmp_path: Path) -> None:
    segment = prepare([made.write(tmp_path / "rows.jsonl", [])], tmp_path / "out", DEFAULTS)
    assert_sound(segment, 0)
    assert segment.rows == {}
    assert segment.settings["inputs"] == [{"file": "rows.jsonl", "lines": 0, "hash": "0" * 32}]
