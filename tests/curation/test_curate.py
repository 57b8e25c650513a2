"""All of curation: what comes out of any rows, in any order, by any workers, and after any death."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from curation import made
from medllm_ops.curation.curate import curate
from medllm_ops.curation.settings import STEPS, CurationSettings, check_settings
from medllm_ops.curation.state.state import find
from medllm_ops.errors import LedgerError, MedllmError, UnreadableFileError
from medllm_ops.files import read_json, read_json_lines, write_json_lines

DEFAULTS = CurationSettings()
SIDES = ("train", "val")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def exported(out: Path) -> dict[str, tuple[str, str]]:
    """Id to side and source."""
    found: dict[str, tuple[str, str]] = {}
    for side in SIDES:
        for path in sorted((out / side).iterdir()):
            for row in read_json_lines(path):
                assert list(row) in (["id", "messages"], ["id", "messages", "rejected_response"])
                assert row["id"] not in found
                found[row["id"]] = (side, path.stem)
    return found


def removed(out: Path) -> list[dict[str, Any]]:
    rows = list(read_json_lines(out / "removed.jsonl"))
    assert rows == sorted(rows, key=lambda row: (STEPS.index(row["step"]), row["id"]))
    return rows


def assert_sound(out: Path, lines: int) -> tuple[dict[str, tuple[str, str]], list[dict[str, Any]]]:
    """The counts balance, entry by entry and file by file."""
    kept, gone = exported(out), removed(out)
    assert len(kept) + len(gone) == lines
    ledger = read_json(out / "ledger.json")
    steps = {
        source: [entry for entry in ledger if entry["source"] == source] for source in {e["source"] for e in ledger}
    }
    for source, entries in steps.items():
        assert [entry["step"] for entry in entries] == [step for step in STEPS if step in {e["step"] for e in entries}]
        for entry in entries:
            assert entry["in"] == entry["out"] + sum(entry["dropped"].values())
        for before, after in itertools.pairwise(entries):
            assert before["out"] == after["in"]
        assert entries[-1]["out"] == sum(of == source for _, of in kept.values())
    assert sum(entries[0]["in"] for entries in steps.values()) == lines
    assert read_json(out / "manifest.json")["ledger"] == ledger
    told: Counter[tuple[str, str, str]] = Counter()
    for entry in ledger:
        told.update({(entry["step"], entry["source"], reason): rows for reason, rows in entry["dropped"].items()})
    assert told == Counter((row["step"], row["source"], row["reason"]) for row in gone)
    sources = read_json(out / "manifest.json")["sources"]
    assert {(name, side): figures[side] for name, figures in sources.items() for side in SIDES} == {
        (name, side): sum(one == (side, name) for one in kept.values()) for name in sources for side in SIDES
    }
    return kept, gone


@pytest.mark.parametrize("seed", range(4))
def test_every_line_is_in_the_dataset_or_removed_for_a_reason(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines: list[made.Row | bytes] = [*made.rows(120, seed)]
    lines += [made.spoiled(row, chance) for row in made.rows(150, seed + 50)]
    chance.shuffle(lines)
    files = [made.write(tmp_path / f"{number}.jsonl", lines[number::3]) for number in range(3)]
    assert curate(files, tmp_path / "out", DEFAULTS)
    kept, gone = assert_sound(tmp_path / "out", len(lines))
    there = {*kept, *(row["id"] for row in gone)}
    assert {line["id"] for line in lines if isinstance(line, dict)} <= there
    assert {row["kept"] for row in gone if "dedup" in row["step"]} <= {*kept, *(row["id"] for row in gone)}


def test_good_rows_are_dropped_for_a_twin_only_and_both_sides_have_some(tmp_path: Path) -> None:
    rows = made.rows(400, 3)
    curate([made.write(tmp_path / "rows.jsonl", rows)], tmp_path / "out", DEFAULTS)
    kept, gone = assert_sound(tmp_path / "out", len(rows))
    assert {row["step"] for row in gone} == {"exact dedup", "near dedup"}
    assert all(row["kept"] in kept for row in gone)
    assert Counter(kept.values()).keys() == {(side, source) for side in SIDES for source in ("made", "other")}
    assert 0.04 < sum(side == "val" for side, _ in kept.values()) / len(kept) < 0.2


def test_ten_thousand_lines_with_a_fault_go_through_the_whole(tmp_path: Path) -> None:
    chance = random.Random(11)
    good = made.rows(400, 9)
    lines = [made.spoiled(chance.choice(good), chance) for _ in range(10_000)]
    curate([made.write(tmp_path / "rows.jsonl", lines)], tmp_path / "out", DEFAULTS)
    kept, _ = assert_sound(tmp_path / "out", len(lines))
    assert len(kept) > 100


def test_a_file_without_any_good_line_is_an_empty_dataset(tmp_path: Path) -> None:
    files = [made.write(tmp_path / "rows.jsonl", [b"{", b"", b"null"]), made.write(tmp_path / "none.jsonl", [])]
    curate(files, tmp_path / "out", DEFAULTS)
    kept, gone = assert_sound(tmp_path / "out", 3)
    assert kept == {}
    assert [row["id"] for row in gone] == ["rows.jsonl:0", "rows.jsonl:2", "rows.jsonl:3"]
    assert read_json(tmp_path / "out" / "manifest.json")["sources"] == {}


def test_the_order_the_workers_and_the_way_rows_lie_in_files_change_no_byte(tmp_path: Path) -> None:
    rows = made.rows(300, 5)
    short = made.row("made:short", 1)
    short["messages"][0]["content"] = "Too short."
    rows.append(short)
    evalset = tmp_path / "evalset.jsonl"
    write_json_lines(evalset, [{"question": row["messages"][0]["content"]} for row in rows[::40]])
    settings = check_settings({"sample": {"total": 150}}, "settings")
    first = made.write_all(tmp_path / "a", {"x.jsonl": rows[:100], "y.jsonl": rows[100:]})
    curate(first, tmp_path / "one", settings, evalsets=[evalset])
    random.Random(1).shuffle(rows)
    by_x = {row["id"] for row in read_json_lines(first[0])}
    second = made.write_all(
        tmp_path / "b",
        {
            "x.jsonl": [row for row in rows if row["id"] in by_x],
            "y.jsonl": [row for row in rows if row["id"] not in by_x],
        },
    )
    curate(second[::-1], tmp_path / "two", settings, evalsets=[evalset], worker_count=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    together = made.write(tmp_path / "c" / "z.jsonl", rows)
    curate([together], tmp_path / "three", settings, evalsets=[evalset])
    one, three = tree(tmp_path / "one"), tree(tmp_path / "three")
    assert {name for name in one if one[name] != three[name]} <= {"manifest.json", "key.json"}
    steps = Counter(row["step"] for row in removed(tmp_path / "one"))
    assert set(steps) == {"clean", "exact dedup", "near dedup", "decontaminate", "sample"}


@pytest.mark.slow
def test_on_ray_it_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path = made.write(tmp_path / "rows.jsonl", made.rows(200, 6))
    curate([path], tmp_path / "local", DEFAULTS)
    script = (
        "import sys; from pathlib import Path; from medllm_ops.curation.curate import curate; "
        "from medllm_ops.curation.settings import CurationSettings; "
        "curate([Path(sys.argv[1])], Path(sys.argv[2]), CurationSettings(), worker_count=2, runner='ray')"
    )
    subprocess.run([sys.executable, "-c", script, str(path), str(tmp_path / "ray")], check=True)
    assert tree(tmp_path / "local") == tree(tmp_path / "ray")


def test_rows_that_have_nothing_to_do_with_the_old_ones_move_none(tmp_path: Path) -> None:
    old = made.rows(200, 7)
    curate([made.write(tmp_path / "old.jsonl", old)], tmp_path / "out", DEFAULTS)
    before = exported(tmp_path / "out")
    new = made.rows(150, 8, sources=("made", "third"))
    curate([tmp_path / "old.jsonl", made.write(tmp_path / "new.jsonl", new)], tmp_path / "out", DEFAULTS)
    after = exported(tmp_path / "out")
    assert before.items() <= after.items()
    assert len(after) > len(before) + 100


def test_a_memory_keeps_every_side_and_no_cluster_is_on_both(tmp_path: Path) -> None:
    rows = made.rows(240, 12)
    state = tmp_path / "state"
    curate([made.write(tmp_path / "1.jsonl", rows[:120])], tmp_path / "out", DEFAULTS, state=state)
    first = exported(tmp_path / "out")
    joint = made.row("made:bridge", 0)
    one, other = (next(id_ for id_, (side, _) in first.items() if side == wanted) for wanted in SIDES)
    texts = {row["id"]: row["messages"][-1]["content"] for row in rows}
    joint["messages"] = [{"role": "assistant", "content": f"{texts[one]} {texts[other]}"}]
    corrected = {**rows[5], "version": 2, "messages": made.row("x", 999)["messages"]}
    second = [joint, corrected, *rows[100:]]
    gone = [rows[7]["id"], rows[8]["id"]]
    assert curate([made.write(tmp_path / "2.jsonl", second)], tmp_path / "out", DEFAULTS, state=state, gone=gone)
    after = exported(tmp_path / "out")
    assert not set(gone) & set(after)
    assert all(after[id_] == side for id_, side in first.items() if id_ in after)
    sides: dict[str, set[str]] = {}
    for id_, known in find(state, after).items():
        sides.setdefault(known.cluster, set()).add(after[id_][0])
    assert max(map(len, sides.values())) == 1

    whole = tree(tmp_path / "out")
    assert not curate([tmp_path / "2.jsonl"], tmp_path / "out", DEFAULTS, state=state)
    replayed = tmp_path / "replayed"
    curate([tmp_path / "1.jsonl"], replayed, DEFAULTS, state=tmp_path / "again")
    curate([tmp_path / "2.jsonl"], replayed, DEFAULTS, state=tmp_path / "again", gone=gone)
    assert tree(replayed) == whole
    other_settings = check_settings({"clean": {"chinese": {"min_characters": 12}}}, "settings")
    with pytest.raises(MedllmError, match="cleaned by other settings"):
        curate([tmp_path / "2.jsonl"], tmp_path / "out", other_settings, state=state)
    assert curate([tmp_path / "2.jsonl"], tmp_path / "out", other_settings, state=state, full=True)
    assert set(exported(tmp_path / "out")) <= {row["id"] for row in second}


def test_what_was_made_of_the_same_is_not_made_again(tmp_path: Path) -> None:
    path, out = made.write(tmp_path / "rows.jsonl", made.rows(60, 1)), tmp_path / "out"
    assert curate([path], out, DEFAULTS)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert not curate([path], out, DEFAULTS, worker_count=2)
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    assert curate([path], out, check_settings({"seed": 7}, "settings"))
    assert not curate([made.write(path, made.rows(60, 1)[::-1])], out, check_settings({"seed": 7}, "settings"))
    assert curate([made.write(path, made.rows(61, 1))], out, check_settings({"seed": 7}, "settings"))
    evalset = tmp_path / "evalset.jsonl"
    write_json_lines(evalset, [{"question": "Which of these is made up for a test of curation?"}])
    assert curate([path], out, DEFAULTS, evalsets=[evalset])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["evalset.jsonl", "out", "rows.jsonl"]


def test_what_stops_it_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    path, out = made.write(tmp_path / "rows.jsonl", [*made.rows(20, 1), b"{"]), tmp_path / "out"
    with pytest.raises(UnreadableFileError, match=r"nowhere\.jsonl: there is no such file"):
        curate([path, tmp_path / "nowhere.jsonl"], out, DEFAULTS)
    with pytest.raises(UnreadableFileError, match="it is a folder"):
        curate([tmp_path], out, DEFAULTS)
    with pytest.raises(UnreadableFileError, match=r"no\.jsonl: there is no such file"):
        curate([path], out, DEFAULTS, evalsets=[tmp_path / "no.jsonl"])
    strict = check_settings({"max_dropped_share": {"read": 0.01}}, "settings")
    with pytest.raises(LedgerError, match=r"step read dropped 1 of 21 rows \(not JSON: 1\)"):
        curate([path], out, strict)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["rows.jsonl"]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(MedllmError, match="holds something else"):
        curate([path], out, DEFAULTS)
    assert (out / "mine.txt").read_text() == "mine"


def test_rows_of_evaluation_sets_are_out(tmp_path: Path) -> None:
    rows = made.rows(80, 2, sources=("made",))
    leaked = rows[4]["messages"][-1]["content"]
    evalset = tmp_path / "evalset.jsonl"
    write_json_lines(evalset, [{"question": leaked}])
    curate([made.write(tmp_path / "rows.jsonl", rows)], tmp_path / "out", DEFAULTS, evalsets=[evalset])
    _, gone = assert_sound(tmp_path / "out", len(rows))
    of_step = [row for row in gone if row["step"] == "decontaminate"]
    assert rows[4]["id"] in {row["id"] for row in of_step} | {row["id"] for row in gone if "dedup" in row["step"]}
    assert of_step


def test_personal_data_are_nowhere_in_what_comes_out(tmp_path: Path) -> None:
    rows = made.rows(40, 4)
    for number, row in enumerate(rows):
        row["messages"][-1]["content"] += f" Call 138001380{number:02} or write to somebody{number}@example.org."
    rows[0]["messages"][-1]["content"] = "Call 13800138000."
    curate([made.write(tmp_path / "rows.jsonl", rows)], tmp_path / "out", DEFAULTS)
    assert_sound(tmp_path / "out", len(rows))
    files = tree(tmp_path / "out")
    # The index of records is made of hashes.
    everything = b"".join(content for name, content in files.items() if not name.endswith(".npy")).decode()
    assert "⟨PHONE⟩" in everything
    assert "138001380" not in everything
    assert "somebody" not in everything
    assert orjson.loads(files["data/marks.json"])["scrub"]


@pytest.mark.parametrize("places", [8, pytest.param(150, marks=pytest.mark.slow)])
def test_killed_at_any_time_and_called_again_it_gives_the_same_bytes(tmp_path: Path, places: int) -> None:
    rows = made.rows(90, 21)
    path = made.write(tmp_path / "rows.jsonl", [*rows, b"{"])
    evalset = tmp_path / "evalset.jsonl"
    write_json_lines(evalset, [{"question": rows[3]["messages"][-1]["content"]}])
    folder = tmp_path / "datasets"
    folder.mkdir()
    script = Path(__file__).with_name("killed_curate.py")
    command = [sys.executable, str(script), str(path), str(evalset), str(folder), str(places)]
    told = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert told["events"] > 30
    assert all(place["died"] for place in told["places"])
    assert not any(place["half"] for place in told["places"])
    assert all(place["same"] for place in told["places"])
    assert told["left"] == []
