"""From a state to the files of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import xxhash

from curation import made
from curation.write.writing import Known, chosen, every, ledger, lines, removed, tree, unique, write
from medllm_ops.curation.write import write as module
from medllm_ops.errors import LedgerError, MedllmError
from medllm_ops.files import read_json, read_json_lines, write_json_lines


def test_rows_stand_in_the_order_of_their_hashes_as_they_came(known: Known, tmp_path: Path) -> None:
    rows = unique(200, 1)
    out = write(known(rows), tmp_path / "out")
    written = lines(out)
    assert set(written) == {"train/made", "train/other", "val/made", "val/other"}
    by_id = {row["id"]: row for row in rows}
    for own in written.values():
        hashes = [xxhash.xxh3_64_intdigest(row["id"].encode(), 42) for row in own]
        assert hashes == sorted(hashes)
        for row in own:
            wanted = by_id[row["id"]]
            assert row == {name: wanted[name] for name in ("id", "messages", "rejected_response") if name in wanted}
    manifest = read_json(out / "manifest.json")
    for source, figures in manifest["sources"].items():
        assert figures["records"] == {side: len(written[f"{side}/{source}"]) for side in ("train", "val")}
        for side in ("train", "val"):
            path = out / side / f"{source}.jsonl"
            assert figures["hashes"][side] == xxhash.xxh3_128_hexdigest(path.read_bytes())
        assert sum(figures["languages"].values()) == figures["train"] + figures["val"]
    lengths = read_json(out / "data" / "lengths.json")
    for name, own in written.items():
        side, source = name.split("/")
        assert sum(lengths[source][side].values()) == len(own)
        sizes = [sum(len(turn["content"]) for turn in row["messages"]) for row in own]
        assert lengths[source][side] == {
            str(1 << low): number for low in range(20) if (number := sum(1 << low <= size < 2 << low for size in sizes))
        }


def test_parts_and_workers_change_no_byte(known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unique(200, 2)
    settings = chosen(sample={"draw": ["made#150"], "max_repeats": 3})
    whole = tree(write(known(rows), tmp_path / "whole", settings))
    monkeypatch.setattr(module, "RUN_BYTES", 3000)
    monkeypatch.setattr(module, "LEAST_RUN_BYTES", 500)
    assert tree(write(known(rows), tmp_path / "parts", settings)) == whole
    assert tree(write(known(rows[::-1]), tmp_path / "two", settings, worker_count=2)) | {"manifest.json": b""} == {
        **whole,
        "manifest.json": b"",
    }


def test_ids_with_one_hash_stand_by_their_lines(known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(ids: list[bytes], seed: int) -> Any:
        return numpy.array([xxhash.xxh3_64_intdigest(id_, seed) % 3 << 62 for id_ in ids], numpy.uint64)

    import numpy

    for name in ("listing", "runs"):
        monkeypatch.setattr(f"medllm_ops.curation.write.{name}.id_hashes", few)
    rows = unique(60, 2)
    whole = lines(write(known(rows), tmp_path / "whole"))
    monkeypatch.setattr(module, "RUN_BYTES", 2000)
    monkeypatch.setattr(module, "LEAST_RUN_BYTES", 300)
    assert lines(write(known(rows[::-1]), tmp_path / "parts")) == whole


def test_a_sample_is_the_beginning_of_the_whole(known: Known, tmp_path: Path) -> None:
    rows = unique(300, 3)
    whole = lines(write(known(rows), tmp_path / "whole"))
    out = write(known(rows), tmp_path / "some", chosen(sample={"total": 120}))
    some = lines(out)
    assert sum(map(len, some.values())) == 120
    for name, own in some.items():
        assert whole[name][: len(own)] == own
    left = {id_ for id_, row in removed(out).items() if row["step"] == "sample"}
    assert left | set(every(out)) == {row["id"] for own in whole.values() for row in own}
    counts = ledger(out)
    assert sum(counts["sample", source]["dropped"]["not in the sample"] for source in ("made", "other")) == len(left)
    reasons = {(row["step"], row["reason"]) for row in read_json_lines(out / "data" / "samples.jsonl")}
    assert ("sample", "not in the sample") in reasons
    assert all(row["excerpt"] for row in read_json_lines(out / "data" / "samples.jsonl") if row["step"] == "sample")


def test_rows_drawn_again_have_ids_of_their_own(known: Known, tmp_path: Path) -> None:
    odd = ['a"b', "back\\", 'x","messages":[', "药@2", "e\u0301\u2028".strip()]
    rows = [made.row(id_, number * 100, "odd") for number, id_ in enumerate(odd)]
    rows += [made.row(f"n{number}", 9000 + number * 100, "odd") for number in range(20)]
    out = write(known(rows), tmp_path / "out", chosen(sample={"draw": ["odd#60"], "max_repeats": 4}))
    written = lines(out)
    ids = [row["id"] for own in written.values() for row in own]
    assert len(set(ids)) == len(ids) == 60
    texts = {row["id"]: row["messages"] for row in rows}
    assert set(texts) <= set(ids)
    for row in written["train/odd"]:
        first = row["id"] if row["id"] in texts else row["id"].rpartition("@")[0]
        assert row["messages"] == texts[first]
    assert all(row["id"] in texts for row in written["val/odd"])
    hashes = [xxhash.xxh3_64_intdigest(row["id"].encode(), 42) for row in written["train/odd"]]
    assert hashes == sorted(hashes)
    entry = ledger(out)["chunk", "odd"]
    assert (entry["in"], entry["out"], entry["pieces"]) == (25, 25, 60)


def test_a_set_on_one_side_is_left_out(known: Known, tmp_path: Path) -> None:
    rows = [*unique(60, 4, sources=("made",)), made.row("lone:1", 77777, "lone")]
    out = write(known(rows), tmp_path / "out")
    assert removed(out)["lone:1"] == {
        "id": "lone:1", "step": "split", "reason": "set without rows on both sides", "source": "lone"
    }  # fmt: skip
    assert ledger(out)["split", "lone"]["dropped"] == {"set without rows on both sides": 1}
    assert set(read_json(out / "manifest.json")["sources"]) == {"made"}
    # It takes no place in a sample, either.
    some = write(
        known([*rows, *(made.row(f"one:{n}", 88000 + n, f"one{n}") for n in range(9))]),
        tmp_path / "some",
        chosen(sample={"total": 30}),
    )
    assert len(every(some)) == 30


def test_items_of_evaluation_sets_are_out_over_all_segments(known: Known, tmp_path: Path) -> None:
    first, second = unique(60, 6, sources=("made",)), unique(61, 60, sources=("more",))
    leaked = [first[3], second[5]]
    # Corrected since: what it said before is no more.
    corrected = {**first[8], "version": 2, "messages": made.row("x", 4242)["messages"]}
    evalset = tmp_path / "evalset.jsonl"
    write_json_lines(evalset, [{"question": row["messages"][-1]["content"]} for row in [*leaked, first[8]]])
    state = known(first, [*second, corrected])
    out = write(state, tmp_path / "out", evalsets=[evalset])
    gone = {id_: row for id_, row in removed(out).items() if row["step"] == "decontaminate"}
    assert set(gone) == {row["id"] for row in leaked}
    assert gone[leaked[0]["id"]]["detail"] == "evalset.jsonl: line 1, 100% of its n-grams"
    assert corrected["id"] in every(out)
    told = list(read_json_lines(out / "data" / "overlaps.jsonl"))
    assert [(row["id"], row["file"], row["item"]) for row in told] == sorted(
        (row["id"], "evalset.jsonl", f"line {number}") for number, row in enumerate(leaked, start=1)
    )
    report = read_json(out / "data" / "decontamination.json")
    assert report["evalsets"][0]["rows_removed"] == 2
    assert [entry["items"] for entry in read_json(out / "manifest.json")["evalsets"]] == [3]
    segments = [path for path in state.segments() if list(path.glob("overlaps-*.jsonl"))]
    assert segments == list(state.segments())


def test_figures_of_all_segments_come_together(known: Known, tmp_path: Path) -> None:
    first, second = unique(40, 7), unique(40, 70)
    twin = {**first[0], "id": "made:twin"}
    broken: list[Any] = [{**row, "messages": []} for row in second[:20]]
    state = known([*first, *broken[:10]], [*second[20:], twin, *broken[10:]])
    out = write(state, tmp_path / "out", context={"corpus": "here"})
    samples = list(read_json_lines(out / "data" / "samples.jsonl"))
    assert [row["reason"] for row in samples].count("not a record") == 5
    (cluster,) = read_json_lines(out / "data" / "clusters.jsonl")
    assert cluster["size"] == 2
    assert set(cluster["ids"]) == {first[0]["id"], "made:twin"}
    assert cluster["ids"][0] == cluster["kept"]
    assert all(cluster["excerpts"])
    manifest = read_json(out / "manifest.json")
    assert manifest["context"] == {"corpus": "here"}
    assert [entry["lines"] for entry in manifest["inputs"]] == [50, 31]
    ledger(out)


def test_licences_that_are_denied_stop_it(known: Known, tmp_path: Path) -> None:
    rows = unique(60, 8)
    for number, row in enumerate(rows):
        row["licence"] = "CC-BY-NC-4.0" if row["source"] == "other" and number % 7 == 0 else "CC0-1.0"
    rows[0]["licence"] = ""
    state = known(rows)
    with pytest.raises(MedllmError, match=r"set other has \d rows under CC-BY-NC-4.0, which licences.deny names"):
        write(state, tmp_path / "a", chosen(licences={"deny": ["*-nc-*"]}))
    write(state, tmp_path / "b", chosen(licences={"deny": ["*-nc-*", "CC0"], "allow": ["other"]}))
    source = rows[0]["source"]
    with pytest.raises(MedllmError, match=f"set {source} has 1 rows without a licence, and licences.unknown is stop"):
        write(state, tmp_path / "c", chosen(licences={"unknown": "stop"}))
    counts = read_json(tmp_path / "b" / "manifest.json")["sources"][source]["licences"]
    assert counts[""] == 1


def test_steps_that_drop_too_much_stop_it(known: Known, tmp_path: Path) -> None:
    rows = [*unique(60, 9, sources=("made",)), made.row("lone:1", 77777, "lone")]
    settings = chosen(max_dropped_share={"split": 0.01})
    with pytest.raises(LedgerError, match=r"step split dropped 1 of 61 rows \(set without rows on both sides: 1\)"):
        write(known(rows), tmp_path / "out", settings)


def test_an_empty_state_is_an_empty_dataset(known: Known, tmp_path: Path) -> None:
    out = write(known(), tmp_path / "out")
    assert read_json(out / "manifest.json")["sources"] == {}
    assert read_json(out / "ledger.json") == []
    assert orjson.loads((out / "data" / "lengths.json").read_bytes()) == {}
