"""A home of its own for every test, trainings that can be stopped at a moment, and nothing left running."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.world import HERE, Trial, leave_nothing, losses, make_request
from medllm_ops.compute import local


def add_to_path(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let children find modules there first."""
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, folders), *([before] if before else [])]))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a test; whatever it has started ends with it."""
    folder = tmp_path / "home"
    (tmp_path / "freezer").mkdir()
    monkeypatch.setattr(local, "POLL_SECONDS", 0.05)
    monkeypatch.setenv("MEDLLM_HOME", str(folder))
    monkeypatch.setenv("FREEZE_FOLDER", str(tmp_path / "freezer"))
    add_to_path(monkeypatch, HERE / "freeze")
    yield folder
    leave_nothing(folder)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find a script in place of ms-swift."""
    add_to_path(monkeypatch, HERE / "fake")


@pytest.fixture
def make_trial(tmp_path: Path, tiny_model: Path) -> Callable[..., Trial]:
    """A training of the tiny model; whether ms-swift or the script does it, the path says."""

    def make(name: str = "one", **settings: Any) -> Trial:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        model = folder / "model"
        if not model.exists():
            model.symlink_to(tiny_model)
        return Trial(make_request(folder, model, **settings), tmp_path / "freezer")

    return make


@pytest.fixture
def unbroken(make_trial: Callable[..., Trial]) -> dict[int, float]:
    """The losses of a training that nobody kills."""
    trial = make_trial("unbroken")
    trial.start()
    trial.succeed()
    return losses(trial.request.output_dir)
