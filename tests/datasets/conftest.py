from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of this test."""
    home = tmp_path / "home"
    monkeypatch.setenv("MEDLLM_HOME", str(home))
    return home
