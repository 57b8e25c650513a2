"""``medllm-ops job run`` as a user types it; what it starts is tested with the trainings and the jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medllm_ops.compute.spool import Spool
from medllm_ops.swift.job_cli import job_app

pytestmark = pytest.mark.usefixtures("asked_once")


def refused(tmp_path: Path, stage: str, *arguments: str) -> str:
    recipe = tmp_path / "x.yaml"
    recipe.write_text(f"name: x\nmodel: {tmp_path}\nstages: {{sft: {stage}}}\n", encoding="utf-8")
    where = ["--dataset", str(tmp_path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(job_app, ["run", "--recipe", str(recipe), "--stage", "sft", *where, *arguments])
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()
    assert Spool().entries() == []
    return str(result.exception)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (
            "{max_steps: 1, extra: {neftune_alfa: 3}}",
            "has no argument neftune_alfa (did you mean neftune_noise_alpha?)",
        ),
        ("{max_steps: 1, tuner_type: adalora}", "cannot be merged with proof"),
        ("{max_steps: 1}", "is no frozen dataset: it has no manifest.json"),
    ],
)
def test_what_would_end_badly_is_refused_before_anything_starts(tmp_path: Path, stage: str, told: str) -> None:
    assert told in refused(tmp_path, stage)


def test_a_model_that_needs_another_environment_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    told = refused(tmp_path, "{max_steps: 1}", "--model", "/models/chatglm3-6b")
    assert "chatglm3-6b needs another environment: one with transformers<4.42" in told
