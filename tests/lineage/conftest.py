from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.corpus.storage import Storage, open_storage


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of this test."""
    home = tmp_path / "home"
    monkeypatch.setenv("MEDLLM_HOME", str(home))
    monkeypatch.delenv("MEDLLM_CORPUS", raising=False)
    return home


@pytest.fixture
def storage(own_home: Path) -> Storage:
    """An empty corpus, where it lies by default."""
    return open_storage(str(own_home / "corpus"))
