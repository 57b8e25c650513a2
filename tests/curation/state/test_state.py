"""Single rules of the state, and what a user may run into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from medllm_ops.curation.settings import CurationSettings
from medllm_ops.curation.state import state as module
from medllm_ops.curation.state.state import CurationState, find, known_digests
from medllm_ops.errors import MedllmError

Make = Callable[..., Any]
SHORT = ("clean", "too short")
RETRACTED = ("read", "retracted")


def kept_ids(state: CurationState) -> list[str]:
    return sorted(id_ for some in state.kept() for id_ in some.rows["id"].to_pylist())


def removed(state: CurationState, step: str) -> list[tuple[str, str, str, int]]:
    return [(row.id, row.reason, row.kept, row.lines) for row in state.removed(step)]


def test_nothing_gives_nothing(take: Make, tell: Make) -> None:
    with take([{"rows": []}]) as state:
        assert tell(state) == {"kept": {}, "removed": [], "counts": []}
        assert state.sample_clusters(3) == []
        assert state.next_segment.name == "000002"


def test_every_set_gets_both_sides_as_soon_as_it_can(take: Make, make_row: Make, tell: Make) -> None:
    few = CurationSettings.model_validate({"split": {"val_share": 0.0001}, "sets": {"b": {"val_share": 0.9999}}})
    words = [" ".join(f"{letter}{number}" for number in range(30)) for letter in "stuvwxyz"]
    history = [
        {"rows": [make_row("a1", words[0]), make_row("b1", words[1], "b"), make_row("b2", words[2], "b")]},
        {"rows": [make_row("a2", words[3])]},
        {"rows": [make_row("a3", words[4]), make_row("b3", words[5], "b"), make_row("a4", words[0])]},
    ]
    sides = []
    for steps in (1, 2, 3):
        with take(history[:steps], few) as state:
            sides.append({id_: row["side"] for id_, row in tell(state)["kept"].items()})
    assert sides[0]["a1"] == "train"
    assert sorted(sides[0][id_] for id_ in ("b1", "b2")) == ["train", "val"]
    assert sides[1] == {**sides[0], "a2": "val"}
    assert sides[2] == {**sides[1], "a3": "train", "b3": "val"}


def test_of_one_id_one_line_stands_and_all_are_counted(take: Make, make_row: Make, window: Make, tell: Make) -> None:
    rows = [
        make_row("v", window(0, 0), version=1),
        make_row("v", window(0, 3), version=2),
        make_row("v", window(0, 3), version=2),
        make_row("d", window(1, 0)),
        make_row("d", "", drop=SHORT),
        make_row("w", window(2, 0)),
        make_row("w", "", drop=RETRACTED),
        make_row("w", "x", drop=SHORT),
        make_row("t", "1", drop=("scrub", "mostly personal data")),
        make_row("t", "2", drop=SHORT),
    ]
    again = "another row has the same id"
    for order in (rows, rows[::-1]):
        with take([{"rows": order}]) as state:
            told = tell(state)
            assert {id_: row["line"].count(b"w24") for id_, row in told["kept"].items()} == {"v": 1, "d": 0}
            assert removed(state, "exact dedup") == [("v", again, "v", 1), ("v", again, "v", 1), ("w", again, "w", 1)]
            assert removed(state, "clean") == [(id_, "too short", "", 1) for id_ in "dtw"]
            assert removed(state, "read") == [("w", "retracted", "", 1)]
            assert removed(state, "scrub") == [("t", "mostly personal data", "", 1)]
            assert sum(count.lines for count in told["counts"]) == len(rows)
            digests = known_digests(state.folder, ["v", "d", "w", "t", "none"])
            assert {id_: len(known) for id_, known in digests.items()} == {"v": 2, "d": 2, "w": 3, "t": 2}


def test_one_line_many_times(take: Make, make_row: Make, window: Make) -> None:
    row = make_row("a", window(0, 0))
    with take([{"rows": [row] * 4}]) as state:
        assert removed(state, "exact dedup") == [("a", "another row has the same id", "a", 3)]
    # Given once again, it is there once; given as the other one of two, each counts once.
    other = make_row("a", window(0, 0), version=2)
    with take([{"rows": [row] * 4}, {"rows": [row]}]) as state:
        assert sum(count.lines for count in state.counts()) == 1
    with take([{"rows": [row, other]}, {"rows": [row]}]) as state:
        assert sum(count.lines for count in state.counts()) == 1
    with take([{"rows": [row] * 2}, {"rows": [], "gone": ["a"]}]) as state:
        assert state.counts() == []


def test_what_is_known_of_an_id(take: Make, make_row: Make, window: Make) -> None:
    history = [
        {"rows": [make_row("a", window(0, 1)), make_row("b", window(0, 0)), make_row("c", window(1, 0))]},
        {"rows": [make_row("c", "", drop=RETRACTED), make_row("d", "", drop=SHORT)], "gone": ["b"]},
    ]
    with take(history) as state:
        rows = find(state.folder, ["a", "b", "c", "d", "none"])
        assert sorted(rows) == ["a", "b", "c", "d"]
        assert (rows["a"].step, rows["a"].kept, rows["a"].similarity, rows["a"].segment) == ("", "a", 1.0, 1)
        assert rows["a"].line[: rows["a"].cut].endswith(b'"}]')
        assert (rows["b"].step, rows["b"].reason, rows["b"].segment, rows["b"].line) == ("gone", "deleted", 1, b"")
        assert (rows["c"].step, rows["c"].reason, rows["c"].segment, rows["c"].cluster) == ("read", "retracted", 2, "")
        assert {row.side for row in rows.values()} <= {"train", "val", ""}
        assert rows["b"].side
        assert rows["c"].side
        assert not rows["d"].side
        assert set(known_digests(state.folder, rows)) == {"a", "c", "d"}
    assert find(Path("no such folder"), ["a"]) == {}
    assert known_digests(Path("no such folder"), ["a"]) == {}


def test_sample_clusters(take: Make, make_row: Make, window: Make) -> None:
    rows = [make_row(f"{family}{place}", window(family, place)) for family in range(4) for place in range(3)]
    with take([{"rows": rows[:10]}]) as state:
        clusters = state.sample_clusters(2)
        assert [[row.id for row in cluster] for cluster in state.sample_clusters(9)[:2]] == [
            [row.id for row in cluster] for cluster in clusters
        ]
        assert len(state.sample_clusters(9)) == 3
        for cluster in clusters:
            assert len({row.cluster for row in cluster}) == 1
            assert sum(not row.step for row in cluster) == 1
            assert all(row.line and (row.similarity < 1) == bool(row.step) for row in cluster)


def test_a_segment_that_is_mostly_dead_is_written_anew(take: Make, make_row: Make, window: Make, tell: Make) -> None:
    rows = [make_row(f"r{number}", window(number % 5, number // 5 * 3), "ab"[number % 2]) for number in range(10)]
    rows.insert(4, make_row("x", "", drop=SHORT))
    corrected = [make_row(f"r{number}", window(number % 5, number // 5 * 3) + " z") for number in range(6)]
    with take([{"rows": rows}, {"rows": corrected[:5]}]) as state:
        assert [path.name for path in state.segments()] == ["000001", "000002"]
    with take([{"rows": rows}, {"rows": corrected}]) as state:
        first, second = state.segments()
        assert (first.name, second.name) == ("000001.1", "000002")
        assert sum(path.stat().st_size for path in (first / "rows").iterdir()) < 2000
        assert (first / "settings.json").is_file()
        assert not (state.folder / "segments" / "000001").exists()
        told = tell(state)
        assert [row.id for row in state.removed("clean")] == ["x"]
        assert find(state.folder, ["r9"])["r9"].line == told["kept"]["r9"]["line"]
        assert told["kept"]["r9"]["line"].startswith(b'{"id":"r9"')


def test_settings_that_changed_need_all_rows(take: Make, prepare: Make, make_row: Make, window: Make) -> None:
    rows = [make_row(f"r{number}", window(number, 0)) for number in range(4)]
    with take([{"rows": rows}]) as state:
        assert state.only_all("1") == ""
        assert "were cleaned by other settings or another version" in state.only_all("2")
        prepare(state.next_segment, rows[:1], made="2")
        with pytest.raises(MedllmError, match="segment 000002 has only some of the rows, and the rows of the state"):
            state.absorb()
        assert len(kept_ids(state)) == 4
        prepare(state.next_segment, rows[:3], full=True, made="2")
        state.absorb()
        assert kept_ids(state) == ["r0", "r1", "r2"]
        assert state.only_all("2") == ""
        assert find(state.folder, ["r3"])["r3"].reason == "not given again"


def test_other_duplicates_need_all_rows_and_sides_stay(
    take: Make, prepare: Make, make_row: Make, window: Make, curation: CurationSettings
) -> None:
    rows = [make_row(f"r{number}", window(number, place)) for number in range(4) for place in (0,)]
    rows.append(make_row("near", window(0, 1)))
    with take([{"rows": rows}]) as state:
        before = find(state.folder, [row["id"] for row in rows])
    strict = curation.model_dump()
    strict["duplicates"]["words"]["threshold"] = 0.9
    with CurationState.open(state.folder, CurationSettings.model_validate(strict)) as state:
        assert "were found by other settings" in state.only_all("1")
        prepare(state.next_segment, rows, full=True)
        state.absorb()
        assert len(kept_ids(state)) == 5
        after = find(state.folder, [row["id"] for row in rows])
        assert {id_: row.side for id_, row in after.items()} == {id_: row.side for id_, row in before.items()}
        assert [path.name for path in (state.folder / "signatures").iterdir()] == ["000002"]
        prepare(state.next_segment, [make_row("late", window(0, 0))])
        state.absorb()
        assert [row[0] for row in removed(state, "exact dedup")] == ["late"]


def test_a_state_for_once_is_the_same_and_keeps_no_signatures(
    tmp_path: Path, take: Make, prepare: Make, make_row: Make, window: Make, tell: Make, curation: CurationSettings
) -> None:
    rows = [make_row(f"r{number}", window(number % 5, number // 5)) for number in range(12)]
    rows.append(make_row("x", "", drop=SHORT))
    with CurationState.open(tmp_path / "once", curation, persistent=False) as state:
        prepare(state.next_segment, rows)
        state.absorb()
        once = tell(state)
        assert not (tmp_path / "once" / "signatures").exists()
        prepare(state.next_segment, rows)
        with pytest.raises(MedllmError, match="takes one segment"):
            state.absorb()
    with take([{"rows": rows}]) as state:
        assert tell(state) == once


def test_one_process_at_a_time(tmp_path: Path, curation: CurationSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with CurationState.open(tmp_path, curation), pytest.raises(MedllmError, match="another process has the state"):
        CurationState.open(tmp_path, curation)
    CurationState.open(tmp_path, curation).close()
    with FileLock(tmp_path / "lock", timeout=0):
        pass


def test_the_lock_of_a_killed_writer_is_cleared_away(take: Make, make_row: Make, curation: CurationSettings) -> None:
    with take([{"rows": [make_row("a", "x")]}]) as state:
        folders = [state.folder / name for name in ("segments", "work", "signatures", "signatures/segments")]
        locks = [folder / ".000002.lock" for folder in folders if folder.is_dir()]
    for lock in locks:
        lock.touch()
    with CurationState.open(state.folder, curation) as state:
        assert kept_ids(state) == ["a"]
        assert [lock for lock in locks if lock.exists()] == []


def test_what_is_broken_is_named(tmp_path: Path, prepare: Make, make_row: Make, curation: CurationSettings) -> None:
    (tmp_path / "state.sqlite").write_bytes(b"no database at all, but longer than its head" * 99)
    with pytest.raises(MedllmError, match=r"cannot be used \(file is not a database\)"):
        CurationState.open(tmp_path, curation)
    with CurationState.open(tmp_path / "s", curation) as state:
        prepare(state.next_segment, [make_row("a", "x"), make_row("b", "y")])
        index = state.next_segment / "index.parquet"
        table = pq.read_table(index)
        for broken, match in (
            (b"", "is no table of rows"),
            (table.drop_columns(["cut"]), "is not the table of a segment"),
            (table.take([1, 0]), "in the order of their places"),
            (table.set_column(3, table.field(3), [pa.array([0, 1], pa.uint64())]), "in the order of their places"),
        ):
            index.write_bytes(b"") if isinstance(broken, bytes) else pq.write_table(broken, index)
            with pytest.raises(MedllmError, match=match):
                state.absorb()
        pq.write_table(table, index)
        state.absorb()
        assert kept_ids(state) == ["a", "b"]


def test_signatures_of_another_history_are_refused(
    take: Make, prepare: Make, make_row: Make, window: Make, curation: CurationSettings
) -> None:
    with take([{"rows": [make_row("a", window(0, 0))]}]) as state:
        database = (state.folder / "state.sqlite").read_bytes()
        prepare(state.next_segment, [make_row("b", window(1, 0))])
        state.absorb()
    (state.folder / "state.sqlite").write_bytes(database)
    for path in (state.folder / "segments" / "000002").rglob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(MedllmError, match="of another segment than its rows"):
        CurationState.open(state.folder, curation)
