from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medllm_ops.curation.duplicates import signatures
from medllm_ops.curation.duplicates.normalise import Unit
from medllm_ops.curation.duplicates.settings import DuplicateSettings, Shingles
from medllm_ops.curation.duplicates.signatures import NO_TEXT, band_keys, fingerprint, sketch, unit_of
from medllm_ops.curation.parts import parts
from medllm_ops.files import write_json_lines

SETTINGS = DuplicateSettings()


def read(jobs: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    rows = []
    for job in jobs:
        count = sketch(job)
        table = pa.ipc.open_file(f"{job['out']}.arrow").read_all()
        assert table.num_rows == count == np.load(f"{job['out']}.npy").shape[1]
        rows += list(zip(*(table[name].to_pylist() for name in ("id", "position", "text")), strict=True))
    return rows


@given(st.lists(st.text("ab 桂\n", max_size=30), max_size=12), st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_parts_of_any_size_hold_each_line_once(
    tmp_path: Path, text_row: Callable[..., Any], texts: list[str], size: int
) -> None:
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [text_row(f"r:{number}", text) for number, text in enumerate(texts)])
    rows = read(parts({"a": path}, tmp_path, SETTINGS, size))
    assert [row[0] for row in rows] == [f"r:{number}" for number in range(len(texts))]
    data = path.read_bytes()
    assert all(position == 0 or data[position - 1 : position] == b"\n" for _, position, _ in rows)


def test_a_last_line_without_its_end_counts(tmp_path: Path, text_row: Callable[..., Any]) -> None:
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [text_row("r:1", "a"), text_row("r:2", "b")])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [row[0] for row in read(parts({"a": path}, tmp_path, SETTINGS, 50))] == ["r:1", "r:2"]


def test_equal_texts_have_equal_keys_and_others_others(toys: Any) -> None:
    texts = [" ".join(toys.words(50, 1)), " ".join(toys.words(50, 1)), " ".join(toys.words(50, 2))]
    keys = band_keys(texts, np.zeros(3, np.uint8), SETTINGS)
    assert keys.shape == (SETTINGS.bands, 3)
    assert np.array_equal(keys[:, 0], keys[:, 1])
    assert not np.any(keys[:, 0] == keys[:, 2])


def test_shapes_never_meet(toys: Any) -> None:
    texts = [" ".join(toys.words(50, 1))] * 3
    keys = band_keys(texts, np.array([0, 2, 4], np.uint8), SETTINGS)
    assert not np.any((keys[:, 0] == keys[:, 1]) | (keys[:, 0] == keys[:, 2]) | (keys[:, 1] == keys[:, 2]))


def test_bands_agree_as_often_as_the_similarity_says(toys: Any) -> None:
    base = toys.words(150, 1)
    texts = [" ".join(base), *(" ".join(toys.changed(base, 0.1, toys.words, seed)) for seed in range(200))]
    keys = band_keys(texts, np.zeros(len(texts), np.uint8), SETTINGS)
    # Three words in a row are all unchanged in 0.9**3 of the cases: J = 0.574, and J**4 = 0.108.
    assert np.mean(keys[:, :1] == keys[:, 1:]) == pytest.approx(0.108, abs=0.02)


def test_codes() -> None:
    assert [unit_of(code) for code in range(6)] == [Unit.WORDS, Unit.CHARACTERS] * 3


def test_rows_without_a_word_have_a_code_of_their_own(tmp_path: Path, text_row: Callable[..., Any]) -> None:
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, [text_row("r:1", "…!"), text_row("r:2", "a")])
    (job,) = parts({"a": path}, tmp_path, SETTINGS)
    sketch(job)
    assert pa.ipc.open_file(f"{job['out']}.arrow").read_all()["code"].to_pylist() == [NO_TEXT, 0]


def test_the_fingerprint_tells_what_signatures_depend_on() -> None:
    words = Shingles(candidate_size=4, size=2, threshold=0.6)
    others = [DuplicateSettings(words=words), DuplicateSettings(bands=16), DuplicateSettings(seed=2)]
    assert len({fingerprint(one) for one in [SETTINGS, *others]}) == 4
    assert fingerprint(DuplicateSettings(sources=("a",), neighbours=3)) == fingerprint(SETTINGS)


def test_signatures_of_texts_that_were_normalised_otherwise_are_not_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(SETTINGS)
    monkeypatch.setattr(signatures, "code_hash", lambda *places: f"another {places}")
    assert fingerprint(SETTINGS) != before
    assert "normalise.py" in fingerprint(SETTINGS)
