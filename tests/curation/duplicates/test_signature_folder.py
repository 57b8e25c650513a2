import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medllm_ops.curation.duplicates import signature_folder
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder
from medllm_ops.errors import MedllmError

Row = dict[str, Any]
SETTINGS = DuplicateSettings()


@pytest.fixture
def known(tmp_path: Path) -> SignatureFolder:
    return SignatureFolder(tmp_path / "signatures", SETTINGS)


@pytest.fixture
def fresh(toys: Any, text_row: Callable[..., Row]) -> Callable[[int, int], list[Row]]:
    """Rows that have nothing to do with each other."""

    def make(first: int, count: int) -> list[Row]:
        return [text_row(f"r{number:04}", " ".join(toys.words(40, number))) for number in range(first, first + count)]

    return make


def segments(folder: Path) -> list[int]:
    return sorted(
        path.joinpath("codes.npy").stat().st_size - 128 for path in (folder / "signatures" / "segments").iterdir()
    )


def test_segments_stay_few(tmp_path: Path, known: SignatureFolder, step: Any, fresh: Any) -> None:
    assert known.empty
    for number in range(11):
        step(fresh(4 * number, 4), known=known)
    assert segments(tmp_path) == [4, 8, 32]
    assert not known.empty
    found = step(fresh(0, 44), known=known)
    assert segments(tmp_path) == [4, 8, 32]
    assert found.figures["contents"] == 44
    assert found.figures["candidates"] == 0


def test_a_new_row_finds_its_like_in_every_segment(
    known: SignatureFolder, step: Any, fresh: Any, table: Any, toys: Any, text_row: Any
) -> None:
    for number in range(7):
        step(fresh(4 * number, 4), known=known)
    near = [
        text_row(f"x{number:04}", " ".join(toys.changed(toys.words(40, number), 0.05, toys.words, number)))
        for number in range(28)
    ]
    found = table(step(near, known=known))
    assert {id_: row["kept"] for id_, row in found.items() if id_[0] == "x"} == {
        f"x{number:04}": f"r{number:04}" for number in range(28)
    }
    assert sorted(found) == sorted([row["id"] for row in near] + [f"r{number:04}" for number in range(28)])
    assert {row["set"] for id_, row in found.items() if id_[0] == "r"} == {None}


def test_the_ledger_and_the_removed_count_the_rows_of_the_step_only(
    known: SignatureFolder, step: Any, fresh: Any, text_row: Any
) -> None:
    rows = fresh(0, 3)
    step(rows, known=known)
    again = [text_row("x1", rows[0]["messages"][0]["content"]), *fresh(5, 1)]
    found = step(again, known=known)
    assert found.ledger[0].to_row() == {
        "step": "exact dedup", "in": 2, "out": 1, "dropped": {"exact duplicate": 1}
    }  # fmt: skip
    assert found.removed.read_bytes().count(b"\n") == 1
    assert pq.read_table(found.clusters).num_rows == 3


def test_texts_of_deleted_rows_go_with_the_next_merge(
    tmp_path: Path, known: SignatureFolder, step: Any, fresh: Any, toys: Any
) -> None:
    step(fresh(0, 4), known=known)
    secret = toys.words(40, 2)[0].encode()
    text = lambda: b"".join(path.read_bytes() for path in tmp_path.glob("signatures/segments/*/texts.bin"))  # noqa: E731
    assert secret in text()
    step(fresh(10, 4), known=known, gone=["r0002", "never seen"])
    assert secret not in text()
    assert segments(tmp_path) == [7]
    assert known.by_id(pa.array(["r0002"])).num_rows == 0


def test_clusters_that_were_joined_are_named(
    known: SignatureFolder, step: Any, table: Any, toys: Any, text_row: Any
) -> None:
    tokens = toys.words(132, 1)
    windows = [" ".join(tokens[start : start + 100]) for start in (0, 16, 32)]
    first = table(step([text_row("a", windows[0]), text_row("c", windows[2])], known=known))
    assert first["a"]["cluster"] != first["c"]["cluster"]
    found = step([text_row("b", windows[1])], known=known)
    low, high = sorted([first["a"]["cluster"], first["c"]["cluster"]])
    assert found.figures["joined"] == {high.hex(): low.hex()}
    after = table(found)
    assert {row["cluster"] for row in after.values()} == {low}
    assert {id_: row["kind"] for id_, row in after.items()} == {"a": "kept", "b": "near", "c": "kept"}


def test_other_settings_are_refused(tmp_path: Path, known: SignatureFolder) -> None:
    SignatureFolder(tmp_path / "signatures", DuplicateSettings(sources=("a",)))
    with pytest.raises(MedllmError, match=r"holds signatures of other settings .* restore the settings, or remove"):
        SignatureFolder(tmp_path / "signatures", DuplicateSettings(bands=16))


@pytest.mark.parametrize("where", ["write_segment", "merge_segments", "_want"])
def test_a_step_that_dies_leaves_what_was_there(
    tmp_path: Path, known: SignatureFolder, step: Any, fresh: Any, table: Any, monkeypatch: Any, where: str
) -> None:
    step(fresh(0, 3), known=known)
    before = known.by_id(pa.array([f"r{number:04}" for number in range(9)]))

    class KilledError(Exception):
        pass

    def die(*_: Any) -> None:
        raise KilledError

    original = getattr(signature_folder, where)
    monkeypatch.setattr(signature_folder, where, die)
    if where == "_want":
        # Lookups need it, too: it dies only within the merge.
        monkeypatch.setattr(signature_folder, where, lambda d, v: die() if d.in_transaction else original(d, v))
    with pytest.raises(KilledError):
        step(fresh(3, 3), known=known)
    assert known.by_id(pa.array([f"r{number:04}" for number in range(9)])) == before
    monkeypatch.undo()
    step(fresh(3, 3), known=known)
    assert segments(tmp_path) == [6]


def test_a_folder_that_is_damaged_says_so(tmp_path: Path, known: SignatureFolder, step: Any, fresh: Any) -> None:
    step(fresh(0, 2), known=known)
    with pytest.raises(MedllmError, match="lost the text of content 0101"):
        known.texts(pa.array([b"\x01" * 16], pa.binary(16)))
    (tmp_path / "signatures" / "rows.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(MedllmError, match="remove the folder and give all rows again"):
        known.by_id(pa.array(["a"]))


def test_two_writers_do_not_mix(tmp_path: Path, known: SignatureFolder, step: Any, fresh: Any) -> None:
    step(fresh(0, 2), known=known)
    other = sqlite3.connect(tmp_path / "signatures" / "rows.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(MedllmError, match="database is locked"):
            step(fresh(2, 2), known=known)
    finally:
        other.close()
    step(fresh(2, 2), known=known)
    assert segments(tmp_path) == [4]
