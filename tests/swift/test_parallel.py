"""Two ranks over gloo, trained by the real ms-swift: one of them is killed, and the result is that of one process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.job import JobError, job_id
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.files import read_json, write_json, write_json_lines
from medllm_ops.swift import zero, zero_config
from medllm_ops.swift.adopt import adopt
from medllm_ops.swift.attempts import build_command, read_attempts
from medllm_ops.swift.checkpoints import is_finite, is_whole, last_whole_checkpoint
from medllm_ops.swift.merge import MergeRequest, merge
from medllm_ops.swift.progress import STEP_KEY, read_log
from medllm_ops.swift.recipe import DEEPSPEED_NAMES, StageRecipe
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import Training, TrainResult, begin, train

# One more than two ranks can share.
ROWS, STEPS = 17, 4
# The order of additions differs, in float32; losses are about 9.
TOLERANCE = 1e-4
DEADLINE = 400.0
needs_compiler = pytest.mark.skipif(
    shutil.which("c++") is None, reason="DeepSpeed compiles for processors: apt install g++"
)
# The second rank waits in its fourth step for whoever ends it; the next attempt finds the mark and goes on.
HOLD = """
import os, time
from transformers import Trainer

trained = Trainer.training_step

def held(self, *arguments, **settings):
    if self.state.global_step == 3 and os.environ.get("RANK") == "1" and not os.path.exists({mark!r}):
        with open({mark!r} + ".part", "w") as file:
            file.write(str(os.getpid()))
        os.rename({mark!r} + ".part", {mark!r})
        time.sleep(3600)
    return trained(self, *arguments, **settings)

Trainer.training_step = held
"""


# Not where the rows are made ready, without ranks.
START = """
import os
if "RANK" in os.environ:
    import deepspeed
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
"""


def row(number: int) -> dict[str, Any]:
    """A row of ms-swift; those beside it have other lengths."""
    turns = {"user": f"question {number}", "assistant": "heart " * (number % 5 + 1)}
    return {"messages": [{"role": role, "content": text} for role, text in turns.items()]}


def losses(output: Path) -> dict[int, float]:
    """The loss of each step, as it was logged last."""
    return {int(line[STEP_KEY].split("/")[0]): line["loss"] for line in read_log(output) if "loss" in line}


@contextmanager
def alone(request: TrainRequest, output: Path) -> Iterator[dict[int, float]]:
    """The same training beside it, in one process with twice the accumulation; its losses are there afterwards."""
    argv = list(build_command(request, None).argv)
    single = [sys.executable, "-m", *argv[argv.index("swift.cli.sft") :]]
    for name, value in (("--output_dir", str(output)), ("--gradient_accumulation_steps", "2")):
        single[single.index(name) + 1] = value
    environment = {**os.environ, **build_command(request, None).env, "MODELSCOPE_CACHE": str(output.parent / "alone")}
    found: dict[int, float] = {}
    with (output.parent / "alone.log").open("wb") as log:
        child = subprocess.Popen(single, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        yield found
        assert child.wait(DEADLINE) == 0, (output.parent / "alone.log").read_text(errors="replace")[-3000:]
        found |= losses(output)
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def request_(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainRequest]:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDLLM_SLOTS", "2")
    for side, count in (("train", ROWS), ("val", 2)):
        write_json_lines(tmp_path / f"{side}.jsonl", [row(number) for number in range(count)])
    plugin = tmp_path / "hold.py"
    plugin.write_text(HOLD.format(mark=str(tmp_path / "held")), encoding="utf-8")
    recipe = StageRecipe(
        gpus=2,
        max_steps=STEPS,
        per_device_train_batch_size=2,
        save_steps=2,
        logging_steps=1,
        lora_rank=4,
        lora_dropout=0,
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        warmup_ratio=0,
        gradient_checkpointing=False,
        extra={"external_plugins": [str(plugin)]},
    )
    files = (tmp_path / "train.jsonl",), (tmp_path / "val.jsonl",)
    directory = tmp_path / "stage"
    settings = {"torch_dtype": "float32", "system": "", "tokens": 200}
    yield TrainRequest("sft", recipe, tiny_model, "qwen2", "qwen2_5", *files, directory, **settings)
    left = list(marked_processes(job_id(directory / "job")))
    end_job(job_id(directory / "job"), grace_seconds=0.1)
    assert left == []


def kill_the_second_rank(training: Training, held: Path) -> None:
    """Wait for its fourth step, and end it by a signal that nobody can catch."""
    assert training.job
    deadline = time.monotonic() + DEADLINE
    while not held.is_file():
        assert time.monotonic() < deadline, training.job.log_tail()
        assert training.job.result() is None, training.job.log_tail()
        time.sleep(0.1)
    os.kill(int(held.read_text()), signal.SIGKILL)


def finish(training: Training, request: TrainRequest, place: LocalPlace) -> TrainResult:
    """The job goes on by itself where the other rank still says that it lost this one, and fails otherwise."""
    with contextlib.suppress(JobError):
        training.finish(place)
    return train(request, place)


def test_two_ranks_of_which_one_is_killed_train_what_one_process_trains(request_: TrainRequest, tmp_path: Path) -> None:
    place = LocalPlace()
    with alone(request_, tmp_path / "alone_output") as expected:
        training = begin(request_, place)
        assert training.job
        kill_the_second_rank(training, tmp_path / "held")
        assert sorted(Leases(place.spool.folder / "leases").held()) == ["slot-0", "slot-1"]
        checkpoint = last_whole_checkpoint(request_.output_dir)
        assert checkpoint
        assert checkpoint.name == "checkpoint-2"
        # Both ranks left their own.
        assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
        result = finish(training, request_, place)
    assert (result.steps, result.rows) == (STEPS, ROWS)
    assert [attempt.first_step for attempt in read_attempts(request_)] == [0, 2]
    assert is_whole(Path(result.checkpoint))
    log = training.job.log.read_text(encoding="utf-8", errors="replace")
    assert log.count("the rows are ready after") == 1
    assert log.count("--cached_dataset") == 2
    assert sorted(expected) == [1, 2, 3, 4]
    assert losses(request_.output_dir) == pytest.approx(expected, abs=TOLERANCE)
    # It has learnt something that a rank on its own, or a step that is left out, would not have.
    assert expected[4] < expected[1] - 100 * TOLERANCE


def with_deepspeed(request: TrainRequest, folder: Path, settings: str, **changes: Any) -> TrainRequest:
    """The training under DeepSpeed, whose communication has to be started early where there is no GPU."""
    start = folder / "start.py"
    start.write_text(START, encoding="utf-8")
    plugins = [str(start), *([str(folder / "hold.py")] if changes.pop("hold", False) else [])]
    extra = {"external_plugins": plugins}
    return replace(request, recipe=request.recipe.model_copy(update={"deepspeed": settings, "extra": extra, **changes}))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", DEEPSPEED_NAMES)
def test_deepspeed_by_its_names_trains_what_one_process_trains(
    request_: TrainRequest, tmp_path: Path, name: str
) -> None:
    asked = with_deepspeed(request_, tmp_path, name)
    with alone(request_, tmp_path / "alone_output") as expected:
        result = train(asked, LocalPlace())
    assert losses(asked.output_dir) == pytest.approx(expected, abs=TOLERANCE)
    checkpoint = Path(result.checkpoint)
    assert is_whole(checkpoint)
    assert is_finite(checkpoint)
    assert len(zero.shards(checkpoint)) == {"0": 1, "1": 3, "2": 3, "3": 4}[name[4]]
    assert not zero.is_only_sharded(checkpoint)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_shards_alone_are_resumed_from_and_merged(request_: TrainRequest, tmp_path: Path, tuner: str) -> None:
    settings = read_json(zero_config._file("zero3"))
    settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = False
    write_json(tmp_path / "ds.json", settings)
    plain = replace(request_, recipe=request_.recipe.model_copy(update={"tuner_type": tuner}))
    asked = with_deepspeed(plain, tmp_path, str(tmp_path / "ds.json"), hold=True)
    place = LocalPlace()
    with alone(plain, tmp_path / "alone_output") as expected:
        training = begin(asked, place)
        kill_the_second_rank(training, tmp_path / "held")
        result = finish(training, asked, place)
    assert [attempt.first_step for attempt in read_attempts(asked)] == [0, 2]
    assert losses(asked.output_dir) == pytest.approx(expected, abs=TOLERANCE)
    assert zero.is_only_sharded(Path(result.checkpoint))
    request = MergeRequest(
        stage="sft",
        base=asked.model_dir,
        adapter=Path(result.checkpoint),
        out=tmp_path / "merged",
        logs=tmp_path / "merge",
        model_type="qwen2",
        template="qwen2_5",
    )
    merged = adopt(request) if tuner == "full" else merge(request)
    assert merged.proof["passed"]
    assert merged.proof["adapter"] == result.checkpoint
