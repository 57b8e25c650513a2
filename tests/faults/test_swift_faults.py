"""What ms-swift itself can do wrong: hang in a checkpoint, or train on what is no number."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.world import STEPS, Trial, losses
from medllm_ops.compute.job import JobError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_hang_is_seen_and_ended_and_the_rerun_goes_on(make_trial: Callable[..., Trial]) -> None:
    trial = make_trial(stalled_minutes=1.0)
    trial.start_frozen("checkpoint")
    error = trial.end()
    assert isinstance(error, JobError)
    assert (error.cause, error.retry) == ("stalled", True)
    assert "nothing moved for 1 minutes" in str(error)
    trial.assert_clear()
    before = losses(trial.request.output_dir)
    trial.start()
    assert trial.succeed().attempts[-1]["first_step"] == 4
    trial.assert_clear()
    after = losses(trial.request.output_dir)
    # Steps 5 to 8 were made twice, with the same losses.
    assert {step: after[step] for step in before} == pytest.approx(before, abs=1e-5)
    assert max(after) == STEPS


def test_weights_that_are_no_numbers_stop_it_and_mended_ones_train(
    make_trial: Callable[..., Trial], tiny_model: Path
) -> None:
    from safetensors.torch import load_file, save_file

    trial = make_trial()
    model = trial.request.model_dir
    model.unlink()
    shutil.copytree(tiny_model, model)
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= float("nan")
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    trial.start()
    error = trial.end()
    assert isinstance(error, JobError)
    assert (error.cause, error.retry) == ("not a number", False)
    assert "the loss is nan at step" in str(error)
    trial.assert_clear()
    shutil.copy(tiny_model / "model.safetensors", model / "model.safetensors")
    trial.start()
    assert trial.succeed().steps == STEPS
    trial.assert_clear()
