"""Rows that are too long for the model, on their way into the files of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from curation import made
from curation.write.writing import Known, chosen, dialogue, every, ledger, lines, removed, unique, write
from medllm_ops.curation.write.tokens import Tokenizer, tokenizer_hash
from medllm_ops.files import read_json


def test_long_rows_are_made_fit(known: Known, tmp_path: Path, tokenizer_folder: Path, tokenizer: Tokenizer) -> None:
    rows = unique(80, 5, sources=("made",))
    long = [made.row(f"long:{number}", 10**5 * (number + 1), "made") for number in range(6)]
    for number, row in enumerate(long):
        row["messages"][0]["content"] = made.text(999 + number, "en", 600)
    rows += long
    talk = dialogue("talk:1", 60)
    talk["messages"] = [*dialogue("talk:0", 400)["messages"], *talk["messages"]]
    rows += [talk, dialogue("talk:2", 3000)]
    chunk = {"tokenizer": str(tokenizer_folder), "max_tokens": 1000}
    settings = chosen(chunk=chunk)
    out = write(known(rows), tmp_path / "out", settings)
    written = every(out)
    for row in long:
        own = [written[id_] for id_ in written if id_.startswith(f"{row['id']}#")]
        own.sort(key=lambda piece: int(piece["id"].rpartition("#")[2]))
        assert len(own) > 1
        joined = " ".join(piece["messages"][0]["content"] for piece in own)
        assert joined.split() == row["messages"][0]["content"].split()
        assert row["id"] not in written
    for row in written.values():
        tokens = sum(tokenizer.counts([turn["content"] for turn in row["messages"]]))
        assert tokens + 32 + 8 * len(row["messages"]) <= 1000
    assert len(written["talk:1"]["messages"]) == 2
    assert written["talk:1"]["messages"] == talk["messages"][2:]
    gone = removed(out)["talk:2"]
    assert (gone["step"], gone["reason"]) == ("chunk", "longer than max_tokens")
    assert "1000 are allowed" in gone["detail"]
    entry = ledger(out)["chunk", "made"]
    assert entry["out"] == entry["in"] - 1
    assert (entry["pieces"], entry["shortened"]) == (len(written), 1)
    manifest = read_json(out / "manifest.json")
    assert manifest["tokenizer"] == tokenizer_hash(tokenizer_folder)
    assert manifest["settings"]["chunk"]["tokenizer"] == tokenizer_folder.name
    # The same where the rows are drawn again and the parts are small.
    again = chosen(chunk=chunk, sample={"draw": ["made#160"], "max_repeats": 2})
    twice = every(write(known(rows), tmp_path / "again", again))
    assert {id_ for id_ in twice if "@2" not in id_} == set(written)
    pieces = [id_ for id_ in twice if id_.startswith("long:") and "@2#" in id_]
    assert pieces
    assert all(twice[id_]["messages"] == twice[id_.replace("@2", "")]["messages"] for id_ in pieces)


def test_a_set_whose_validation_does_not_fit_is_left_out_and_told_why(
    known: Known, tmp_path: Path, tokenizer_folder: Path
) -> None:
    rows = [dialogue(f"d:{number}", 40, "talk") for number in range(30)]
    # Rows keep their sides when they are corrected: all those that validate become too long.
    validating = {row["id"] for row in lines(write(known(rows), tmp_path / "before"))["val/talk"]}
    longer = [
        {**row, "version": 2, "messages": dialogue(f"long {row['id']}", 3000)["messages"]}
        for row in rows
        if row["id"] in validating
    ]
    state = known(rows, longer)
    settings = chosen(chunk={"tokenizer": str(tokenizer_folder), "max_tokens": 1500})
    assert len(every(write(state, tmp_path / "plain"))) == 30
    out = write(state, tmp_path / "out", settings)
    assert every(out) == {}
    assert read_json(out / "manifest.json")["sources"] == {}
    counts = ledger(out)
    assert counts["split", "talk"]["dropped"] == {"set without rows on both sides": 30 - len(longer)}
    assert counts["chunk", "talk"]["dropped"] == {"longer than max_tokens": len(longer)}
    assert len(removed(out)) == 30


def test_no_piece_and_no_repeat_has_the_id_of_a_record(known: Known, tmp_path: Path, tokenizer_folder: Path) -> None:
    taken = ["x@2", "x#1", "x#3", "x@3#2", "y@3"]
    rows = [made.row(id_, number, "made") for number, id_ in enumerate(["x", "y", *taken])]
    rows[0]["messages"][0]["content"] = made.text(999, "en", 600)
    rows += unique(30, 5, sources=("made",))
    settings = chosen(
        chunk={"tokenizer": str(tokenizer_folder), "max_tokens": 1000},
        sample={"draw": [f"made#{3 * len(rows)}"], "max_repeats": 3},
    )
    out = write(known(rows), tmp_path / "out", settings)
    ids = [row["id"] for of_file in lines(out).values() for row in of_file]
    assert len(ids) == len(set(ids))
    assert {*taken} < {*ids}
    texts = {id_: row["messages"][0]["content"] for id_, row in every(out).items()}
    assert all(texts[id_] == rows[number]["messages"][0]["content"] for number, id_ in enumerate(taken, start=2))
    assert {"x#2", "x#4", "x@3#1", "x@3#3", "y", "y@2", "y@4"} < {*ids}
    assert texts["x#2"] == texts["x@3#1"]
    records = read_json(out / "manifest.json")["sources"]["made"]["records"]
    assert {side: np.load(out / "ids" / side / "made.npy").shape[1] for side in records} == records
