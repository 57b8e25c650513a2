"""Old books of Chinese medicine know no telephone: nothing in the real dumps may be taken for personal data."""

from __future__ import annotations

from pathlib import Path

from medllm_ops.curation.scrub import ScrubSettings, scrub_text


def test_old_books_have_no_personal_data(samples: Path) -> None:
    files = sorted((samples / "tcm_books").glob("*.txt"))[:12]
    assert files
    for file in files:
        text = file.read_bytes().decode("gb18030", "replace")
        found = [what for what in scrub_text(text, ScrubSettings())[1] if what is not None]
        assert not found, file.name
