"""What happens around a training: a clock that jumps, a folder that is removed, a model that lacks something."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.world import STEPS, Trial, assert_clear, losses
from medllm_ops.compute.job import job_id
from medllm_ops.compute.lease import Leases
from medllm_ops.errors import MedllmError
from medllm_ops.models.resolve import resolve_model

DAY = 86_400.0

pytestmark = pytest.mark.usefixtures("scripted")


def test_a_clock_that_jumps_by_a_day_and_back_changes_nothing(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainer, supervisor, attempts and this worker: ``time.time`` of all of them; the kernel's own clock stays."""
    clock = tmp_path / "freezer" / "clock"
    clock.write_text("0")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + float(clock.read_text() or 0))
    trial = make_trial()
    trial.start_frozen("start-up")
    assert trial.job
    supervisor = trial.job.supervisor()
    for days, moment in ((1, "step"), (-1, "evaluation"), (300, "checkpoint")):
        clock.write_text(str(days * DAY))
        trial.arm(moment)
        trial.thaw()
        trial.wait_frozen()
        assert supervisor
        assert supervisor.alive()
        (lease,) = Leases(trial.place.spool.folder / "leases").held().values()
        assert lease.holder == supervisor
    clock.write_text(str(-300 * DAY))
    trial.thaw()
    result = trial.succeed()
    trial.assert_clear()
    assert len(result.attempts) == 1
    assert result.seconds < DAY
    assert losses(trial.request.output_dir) == unbroken


def test_a_log_folder_that_is_removed_costs_the_log_and_not_the_training(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start_frozen("step")
    shutil.rmtree(trial.directory)
    trial.thaw()
    assert trial.succeed().steps == STEPS
    assert losses(trial.request.output_dir) == unbroken
    assert_clear(job_id(trial.directory), trial.place.spool)


def test_a_training_whose_log_folder_was_removed_is_not_started_beside_itself(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start_frozen("step")
    shutil.rmtree(trial.directory)
    second = Trial(trial.request, trial.freezer)
    second.start()
    result = second.succeed()
    second.assert_clear()
    assert result.attempts[-1]["first_step"] == 4
    assert losses(trial.request.output_dir) == unbroken


def test_an_output_folder_that_is_removed_is_an_end_in_words_and_the_rerun_begins_anew(
    make_trial: Callable[..., Trial], unbroken: dict[int, float]
) -> None:
    trial = make_trial()
    trial.start_frozen("checkpoint")
    shutil.rmtree(trial.request.output_dir)
    trial.thaw()
    assert isinstance(trial.end(), MedllmError)
    trial.assert_clear()
    trial.start()
    assert trial.succeed().attempts[-1]["first_step"] == 0
    trial.assert_clear()
    assert losses(trial.request.output_dir) == unbroken


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "optimizer.pt").write_bytes((folder / "optimizer.pt").read_bytes()[:-40]),
        lambda folder: (folder / "scheduler.pt").write_bytes(b"PK" + bytes(200)),
        lambda folder: (folder / "rng_state.pth").unlink(),
        shutil.rmtree,
    ],
    ids=["half", "corrupt", "a part missing", "missing"],
)
def test_a_checkpoint_that_is_not_whole_is_never_gone_on_from(
    make_trial: Callable[..., Trial], unbroken: dict[int, float], damage: Callable[[Path], None]
) -> None:
    trial = make_trial()
    trial.start_frozen("checkpoint")
    trial.strike("swift", signal.SIGKILL)
    trial.end()
    damage(trial.request.output_dir / "checkpoint-4")
    trial.start()
    assert trial.succeed().attempts[-1]["first_step"] == 0
    trial.assert_clear()
    assert losses(trial.request.output_dir) == unbroken


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer*", "has no tokenizer: one of tokenizer.json"),
        ("*.safetensors", r"has no weights \(\*\.safetensors\)"),
    ],
)
def test_a_model_that_lacks_something_is_refused_before_any_job(
    tiny_model: Path, tmp_path: Path, pattern: str, sentence: str
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "lacking"))
    for path in folder.glob(pattern):
        path.unlink()
    for path in folder.glob("vocab*"):
        path.unlink()
    with pytest.raises(MedllmError, match=sentence):
        resolve_model(str(folder), "modelscope")


def test_a_model_that_went_away_since_the_plan_is_named_and_nothing_starts(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial()
    model = trial.request.model_dir
    target = model.readlink()
    model.unlink()
    trial.start()
    error = trial.end()
    assert isinstance(error, MedllmError)
    assert f"{model / 'config.json'} does not exist" in str(error)
    assert trial.place.spool.entries() == []
    model.symlink_to(target)
    trial.start()
    assert trial.succeed().steps == STEPS
    trial.assert_clear()
