import json
import math
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.swift.progress import Progress, read_end, read_log, read_progress


def step(number: int, of: int = 10, **more: Any) -> dict[str, Any]:
    return {**more, "global_step/max_steps": f"{number}/{of}", "percentage": "", "elapsed_time": "1s"}


def summary(number: int, **more: Any) -> dict[str, Any]:
    return {
        "train_dataset": "n",
        "last_model_checkpoint": None,
        "best_model_checkpoint": None,
        "global_step": number,
        **more,
    }


def write(folder: Path, rows: list[dict[str, Any]], tail: str = "") -> Path:
    (folder / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def test_before_the_first_step_there_is_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path, 1, 1.0) is None
    assert read_end(tmp_path) is None
    assert read_progress(write(tmp_path, []), 1, 1.0) is None
    assert read_end(tmp_path) is None


def test_progress_is_the_last_step_with_its_losses_and_its_speed(tmp_path: Path) -> None:
    write(tmp_path, [step(1, loss=3.0), step(2, eval_loss=2.5), step(4, loss=2.0)])
    progress = read_progress(tmp_path, rows_per_step=8, seconds=16.0)
    assert progress == Progress(4, 10, 2.0, 2.5, 16.0, 2.0)
    assert progress.eta_seconds == 24.0
    assert str(progress) == "step 4 of 10, loss 2.0000, eval loss 2.5000, 2.00 rows/s, 24 s left"


def test_a_line_that_is_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    line = json.dumps(step(2, loss=2.0))
    write(tmp_path, [step(1, loss=3.0)], line[:20])
    assert len(list(read_log(tmp_path))) == 1
    # Whole, but its line end is not there yet.
    write(tmp_path, [step(1, loss=3.0)], line)
    progress = read_progress(tmp_path, 1, 1.0)
    assert progress
    assert progress.step == 1


def test_a_resumed_training_writes_on_behind_the_half_line_of_the_killed_one(tmp_path: Path) -> None:
    write(tmp_path, [step(1, loss=3.0)], '{"loss": 2.9, "glob' + json.dumps(step(2, loss=2.8)) + "\n")
    with (tmp_path / "logging.jsonl").open("a") as file:
        file.write(json.dumps(step(3, loss=2.7)) + "\n" + json.dumps(summary(3)) + "\n")
    assert [row["global_step/max_steps"] for row in read_log(tmp_path) if "loss" in row] == ["1/10", "3/10"]
    end = read_end(tmp_path)
    assert end
    assert (end.step, end.loss) == (3, 2.7)


def test_the_speed_of_a_resumed_training_counts_from_where_it_went_on(tmp_path: Path) -> None:
    write(tmp_path, [step(80, 100, loss=1.0)])
    before = read_progress(tmp_path, 1, 5.0, first_step=80)
    assert before
    assert (before.rows_per_second, before.eta_seconds) == (None, None)
    assert str(before) == "step 80 of 100, loss 1.0000"
    write(tmp_path, [step(80, 100, loss=1.0), step(90, 100, loss=0.9)])
    after = read_progress(tmp_path, 1, 20.0, first_step=80)
    assert after
    assert (after.rows_per_second, after.eta_seconds) == (0.5, 20.0)


def test_a_loss_that_is_no_number_is_read_as_such(tmp_path: Path) -> None:
    write(tmp_path, [step(1, loss=math.nan), summary(1)])
    assert "NaN" in (tmp_path / "logging.jsonl").read_text()
    progress, end = read_progress(tmp_path, 1, 1.0), read_end(tmp_path)
    assert progress
    assert end
    assert progress.loss is not None
    assert math.isnan(progress.loss)
    assert math.isnan(end.loss)
    assert "loss nan" in str(progress)


def test_the_end_tells_steps_losses_and_checkpoints(tmp_path: Path) -> None:
    rows = [
        step(9, loss=2.0),
        step(10, eval_loss=1.5),
        summary(10, last_model_checkpoint="/o/checkpoint-10", best_model_checkpoint="/o/checkpoint-5", memory=None),
    ]
    end = read_end(write(tmp_path, rows))
    assert end
    assert (end.step, end.max_steps, end.loss, end.eval_loss) == (10, 10, 2.0, 1.5)
    assert (end.last_checkpoint, end.best_checkpoint) == (Path("/o/checkpoint-10"), Path("/o/checkpoint-5"))
    assert end.summary == rows[-1]


@pytest.mark.parametrize("global_step", [0, None])
def test_a_training_without_a_step_ends_at_step_0(tmp_path: Path, global_step: int | None) -> None:
    end = read_end(write(tmp_path, [{**summary(0), "global_step": global_step}]))
    assert end
    assert (end.step, end.max_steps, end.last_checkpoint, end.eval_loss) == (0, 0, None, None)
    assert math.isnan(end.loss)


def test_the_last_of_several_attempts_counts(tmp_path: Path) -> None:
    rows = [step(5, loss=9.0), summary(5), step(6, loss=2.0), step(10, loss=1.0), summary(10)]
    end = read_end(write(tmp_path, rows))
    assert end
    assert (end.step, end.loss) == (10, 1.0)


def test_the_rewards_of_an_alignment_are_told(tmp_path: Path) -> None:
    rewards = {"rewards/margins": 0.25, "rewards/accuracies": 0.75}
    validation = {"eval_rewards/margins": 0.5, "eval_rewards/accuracies": 1}
    first = step(1, loss=0.7, **{"rewards/margins": 0.0, "rewards/accuracies": 0.0})
    write(tmp_path, [first, step(2, loss=0.6, **rewards), step(2, eval_loss=0.5, **validation), summary(2)])
    progress, end = read_progress(tmp_path, 1, 1.0), read_end(tmp_path)
    assert progress is not None
    assert end is not None
    assert progress.rewards == end.rewards
    assert end.rewards == {"margin": 0.25, "accuracy": 0.75, "eval_margin": 0.5, "eval_accuracy": 1.0}
    assert "eval loss 0.5000, margin 0.250, accuracy 0.750, eval margin 0.500, eval accuracy 1.000" in str(progress)
    # A training of another kind has none.
    assert read_progress(write(tmp_path, [step(1, loss=3.0)]), 1, 1.0).rewards == {}  # type: ignore[union-attr]
