"""Real processes in place of ms-swift: what an attempt leaves, and what the next one does."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from medllm_ops.compute.processes import MARK, end_job, marked_processes
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json, write_json_lines
from medllm_ops.swift import attempts as module
from medllm_ops.swift.attempts import Attempts, build_command, halved, main, read_attempts
from medllm_ops.swift.command import Command
from medllm_ops.swift.recipe import StageRecipe
from medllm_ops.swift.request import TrainRequest

JOB = "test-attempts"
Run = Callable[..., Any]
# Logs a step, and the end if there is one.
LOG = """
import json, os, sys, time
OUTPUT = {output!r}
os.makedirs(OUTPUT, exist_ok=True)
def log(**row):
    with open(OUTPUT + "/logging.jsonl", "a") as file:
        file.write(json.dumps(row) + "\\n")
def step(number, loss=2.0):
    log(**{{"loss": loss, "global_step/max_steps": f"{{number}}/4"}})
def end(number=4):
    log(last_model_checkpoint=None, global_step=number)
ATTEMPT = {attempt}
"""


def save_checkpoint(output: Path, step: int, value: float = 1.0) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": np.full(4, value, dtype=np.float32)}, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", b"state")
    write_json(folder / "trainer_state.json", {"global_step": step})
    return folder


@pytest.fixture
def request_(tmp_path: Path) -> TrainRequest:
    rows = tmp_path / "rows.jsonl"
    write_json_lines(rows, [{"messages": []}] * 8)
    write_json(tmp_path / "model" / "config.json", {})
    recipe = StageRecipe(max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    directory = tmp_path / "sft"
    (directory / "job").mkdir(parents=True)
    (directory / "job" / "job.log").touch()
    return TrainRequest("sft", recipe, tmp_path / "model", "q", "q", (rows,), (rows,), directory, tokens=80)


@pytest.fixture
def run(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the attempts with a piece of Python in place of ms-swift; returns failure and what each was given."""
    monkeypatch.setenv(MARK, JOB)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)

    def do(code: str, request: TrainRequest = request_) -> tuple[Any, list[tuple[int, Path | None]]]:
        given: list[tuple[int, Path | None]] = []

        def build(asked: TrainRequest, resume_from: Path | None) -> Command:
            given.append((asked.recipe.per_device_train_batch_size, resume_from))
            head = LOG.format(output=str(asked.output_dir), attempt=len(given))
            return Command((sys.executable, "-c", head + code), {})

        return Attempts(request, request.directory / "job" / "job.log", build).run(), given

    yield do
    left = list(marked_processes(JOB))
    end_job(JOB, grace_seconds=0.1)
    assert left == []


def log_of(request: TrainRequest) -> str:
    return (request.directory / "job" / "job.log").read_text()


def test_a_training_that_ends_well_has_one_attempt(run: Run, request_: TrainRequest) -> None:
    failure, given = run("step(2); step(4); end()")
    assert failure is None
    assert given == [(4, None)]
    (attempt,) = read_attempts(request_)
    assert (attempt.first_step, attempt.batch, attempt.accumulation, attempt.cause) == (0, 4, 2, "")
    assert attempt.seconds > 0


def test_an_attempt_that_was_killed_with_its_job_is_told_as_that(run: Run, request_: TrainRequest) -> None:
    noted = []

    def build(asked: TrainRequest, resume_from: Path | None) -> Command:
        noted.extend(read_attempts(request_))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Attempts(request_, request_.directory / "job" / "job.log", build).run()
    assert [(one.exit_code, one.cause) for one in noted] == [(None, "")]
    run("step(4); end()")
    assert [(one.exit_code, one.cause) for one in read_attempts(request_)] == [(None, "killed"), (0, "")]


def test_out_of_memory_halves_the_batch_and_goes_on_from_the_last_whole_checkpoint(
    run: Run, request_: TrainRequest
) -> None:
    save_checkpoint(request_.output_dir, 2)
    half = save_checkpoint(request_.output_dir, 3)
    (half / "optimizer.pt").write_bytes(b"half")
    code = "if ATTEMPT < 3: sys.exit('torch.OutOfMemoryError: CUDA out of memory.')\nstep(3); step(4); end()"
    failure, given = run(code)
    assert failure is None
    assert given == [(batch, request_.output_dir / "checkpoint-2") for batch in (4, 2, 1)]
    assert not half.exists()
    tried = read_attempts(request_)
    assert [(one.batch, one.accumulation, one.cause) for one in tried] == [
        (4, 2, "memory"),
        (2, 4, "memory"),
        (1, 8, ""),
    ]
    assert tried[0].change == "a batch of 2 rows, accumulated 4 times"
    assert "it ran out of memory; going on with a batch of 2 rows, accumulated 4 times" in log_of(request_)
    # A later try begins with what is known to fit.
    assert run("step(4); end()")[1] == [(1, request_.output_dir / "checkpoint-2")]


def test_a_recipe_that_does_not_allow_it_keeps_its_batch(run: Run, request_: TrainRequest) -> None:
    fixed = replace(request_, recipe=request_.recipe.model_copy(update={"halve_batch": False}))
    failure, given = run("sys.exit('CUDA out of memory')", fixed)
    assert len(given) == 1
    assert (failure.cause, failure.retry) == ("memory", False)
    assert "with a batch of 4: allow halve_batch in the recipe" in failure.sentence


def test_a_batch_of_one_cannot_be_halved(run: Run, request_: TrainRequest) -> None:
    failure, given = run("sys.exit('CUDA out of memory')")
    assert [batch for batch, _ in given] == [4, 2, 1]
    assert "with a batch of 1: shorten max_length" in failure.sentence


def test_rows_in_a_step_stay_the_same() -> None:
    recipe = StageRecipe(max_steps=1, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    smaller = halved(recipe)
    assert smaller
    assert (smaller.per_device_train_batch_size, smaller.gradient_accumulation_steps) == (1, 6)
    assert halved(smaller) is None


@pytest.mark.parametrize("words", ["[Errno 98] EADDRINUSE", "torch.distributed.DistBackendError: NCCL error in: x"])
def test_a_taken_port_or_a_lost_rank_gets_another_port(run: Run, request_: TrainRequest, words: str) -> None:
    code = f"""
with open(OUTPUT + "/ports", "a") as file: print(os.environ["MASTER_PORT"], file=file)
if ATTEMPT < 3: sys.exit({words!r})
step(4); end()
"""
    failure, given = run(code)
    assert failure is None
    assert len(given) == 3
    ports = (request_.output_dir / "ports").read_text().split()
    assert len(set(ports)) == 3
    assert [one.change for one in read_attempts(request_)] == ["a new port", "a new port", ""]


def test_what_does_not_help_is_not_tried_for_ever(run: Run) -> None:
    failure, given = run("sys.exit('Address already in use')")
    assert len(given) == 4
    assert (failure.cause, failure.retry) == ("port", True)


def test_a_full_disk_fails_and_only_our_half_files_are_removed(run: Run, request_: TrainRequest) -> None:
    save_checkpoint(request_.output_dir, 2)
    code = """
os.mkdir(OUTPUT + "/checkpoint-3")
open(OUTPUT + "/checkpoint-3/adapter_model.safetensors", "w").write("half")
open(OUTPUT + "/somebody's file", "w").close()
raise OSError(28, "No space left on device")
"""
    failure, given = run(code)
    assert len(given) == 1
    assert (failure.cause, failure.retry) == ("disk", False)
    assert "checkpoint-2 is kept" in failure.sentence
    left = {path.name for path in request_.output_dir.iterdir()}
    assert left == {"checkpoint-2", "somebody's file"}


def test_a_loss_that_is_no_number_stops_it_and_the_checkpoint_before_is_kept(run: Run, request_: TrainRequest) -> None:
    save_checkpoint(request_.output_dir, 1)
    folder = save_checkpoint(request_.output_dir, 3, value=float("nan"))
    folder.rename(request_.directory / "bad")
    code = f"""
step(2)
os.rename({str(request_.directory / "bad")!r}, OUTPUT + "/checkpoint-3")
step(3, float("nan"))
time.sleep(600)
"""
    failure, given = run(code)
    assert len(given) == 1
    assert (failure.cause, failure.retry) == ("not a number", False)
    assert "the loss is nan at step 3, and was a number at step 2" in failure.sentence
    assert "checkpoint-1 is kept" in failure.sentence
    assert (request_.output_dir / "diverged-checkpoint-3").is_dir()
    # The next try does not stumble over what this one logged.
    failure, given = run("step(4); end()")
    assert failure is None
    assert given == [(4, request_.output_dir / "checkpoint-1")]


def test_a_loss_that_is_no_number_in_the_last_step_is_seen_too(run: Run) -> None:
    failure, _ = run("step(4, float('inf')); end()")
    assert failure.cause == "not a number"


def test_a_hang_is_ended_with_its_stacks(
    run: Run, request_: TrainRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = tmp_path / "bin" / "py-spy"
    spy.parent.mkdir()
    spy.write_text("#!/bin/sh\necho stack of $3\n")
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{spy.parent}{os.pathsep}{os.environ['PATH']}")
    hanging = replace(request_, recipe=request_.recipe.model_copy(update={"stalled_minutes": 0.05}))
    code = """
import subprocess
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
step(1)
while True:
    print("a watchdog talks", flush=True)
    time.sleep(0.05)
"""
    failure, given = run(code, hanging)
    assert len(given) == 1
    assert (failure.cause, failure.retry) == ("stalled", True)
    assert log_of(request_).count("py-spy dump of pid") == 2
    assert len(re.findall(r"^stack of \d+$", log_of(request_), re.MULTILINE)) == 2


def test_bars_that_move_are_no_hang(run: Run, request_: TrainRequest) -> None:
    slow = replace(request_, recipe=request_.recipe.model_copy(update={"stalled_minutes": 0.05}))
    code = """
for number in range(90):
    print(f"\\rMap:  33%|███▎      | {number}/90 [00:02<00:05,  1.43s/it]", end="", flush=True)
    time.sleep(0.05)
step(4); end()
"""
    assert run(code, slow)[0] is None


def test_heartbeats_tell_step_loss_speed_time_and_memory(
    run: Run, request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medllm_ops.swift.watching.HEARTBEAT_SECONDS", 0.0)
    code = f"""
step(1)
for number in (2, 3):
    step(number)
    while f"heartbeat: step {{number}}" not in open({str(request_.directory / "job" / "job.log")!r}).read():
        time.sleep(0.02)
step(4); end()
"""
    run(code)
    (line, *_) = [line for line in log_of(request_).splitlines() if "heartbeat: step 3" in line]
    assert "step 3 of 4, loss 2.0000, " in line
    assert " tokens/s, " in line
    assert " s left, " in line
    assert line.endswith(" GiB")


def test_an_end_before_the_last_step_is_no_success(run: Run) -> None:
    failure, _ = run("step(3); end(3)")
    assert (failure.cause, failure.retry) == ("unknown", True)
    assert "at step 3 of 4" in failure.sentence


@pytest.mark.parametrize(
    ("code", "cause", "retry"),
    [
        ("sys.exit(2)", "arguments", False),
        ("os.kill(os.getpid(), 9)", "killed", True),
        ("1 / 0", "unknown", True),
        ("class MaxLengthError(Exception): pass\nraise MaxLengthError('Current length of row(9)')", "long row", False),
        ("class DatasetGenerationError(Exception): pass\nraise DatasetGenerationError('An error')", "rows", False),
    ],
)
def test_other_ends_are_not_tried_again_here(run: Run, code: str, cause: str, retry: bool) -> None:
    failure, given = run(code)
    assert len(given) == 1
    assert (failure.cause, failure.retry) == (cause, retry)


def test_a_rank_that_outlives_its_launcher_is_ended(run: Run) -> None:
    code = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nstep(4); end()"
    assert run(code)[0] is None
    assert list(marked_processes(JOB)) == []


def test_the_command_is_that_of_the_stage(request_: TrainRequest) -> None:
    checkpoint = save_checkpoint(request_.output_dir, 2)
    argv = build_command(request_, checkpoint).argv
    assert "swift.cli.sft" in argv
    assert argv[argv.index("--resume_from_checkpoint") + 1] == str(checkpoint)
    assert argv[argv.index("--logging_nan_inf_filter") + 1] == "false"
    assert not {"--halve_batch", "--stalled_minutes"} & set(argv)
    assert "swift.cli.pt" in build_command(replace(request_, stage="pretrain"), None).argv


def test_what_cannot_be_built_is_a_failure_in_words(request_: TrainRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Command:
        raise MedllmError("/m must be an absolute path that exists")

    monkeypatch.setattr(module, "build", refuse)
    file = request_.directory / "job" / "request.json"
    write_json(file, request_.to_row())
    assert main(file) == 1
    failure = read_json(request_.directory / "job" / "failure.json")
    assert failure == {"cause": "arguments", "sentence": "/m must be an absolute path that exists", "retry": False}
    assert read_attempts(request_)[-1].cause == "arguments"


def test_a_request_survives_its_file(request_: TrainRequest) -> None:
    row = json.loads(json.dumps(request_.to_row()))
    assert TrainRequest.from_row(row) == request_
    assert TrainRequest.from_row(row).key() == request_.key()
