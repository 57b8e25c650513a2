"""The job of a training: ``python -m medllm_ops.swift.attempts REQUEST.json``.

It starts ms-swift, watches it, and starts it again from the last whole checkpoint where the cause of its end can be
cured: it needs neither the worker nor Airflow for that. It runs under the supervisor, which ends all of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from medllm_ops.compute.gpus import find_slots
from medllm_ops.compute.job import EXIT_DISK, Failure
from medllm_ops.compute.nodes import Nodes
from medllm_ops.compute.ports import free_port
from medllm_ops.compute.processes import MARK, end_job
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, read_json, write_json
from medllm_ops.swift import leftovers, tokenised
from medllm_ops.swift.causes import Cause, find_cause, memory_kills
from medllm_ops.swift.checkpoints import is_behind_the_last_step, last_whole_checkpoint, step_of
from medllm_ops.swift.command import Command, build, needs_launcher
from medllm_ops.swift.progress import read_end
from medllm_ops.swift.recipe import StageRecipe, command_of
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.together import LATE_SECONDS, FirstNode, OtherNode, torchrun_environment
from medllm_ops.swift.watching import POLL_SECONDS, Watcher, dump_stacks

LOG_TAIL_BYTES = 262_144
Build = Callable[[TrainRequest, Path | None], Command]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of ms-swift: from which step, with which batch, and how it ended.

    :param seconds: wall time. :param exit_code: None as long as it runs, and for ever if it was killed with its job.
    :param cause: of its end, empty as long as it runs, and if it ended well. :param change: what the next one does.
    """

    first_step: int
    batch: int
    accumulation: int
    seconds: float = 0.0
    exit_code: int | None = None
    cause: str = ""
    change: str = ""


def read_attempts(request: TrainRequest) -> list[Attempt]:
    """All attempts at a training so far."""
    path = request.attempts_file
    return [Attempt(**row) for row in read_json(path)] if path.is_file() else []


def build_command(request: TrainRequest, resume_from: Path | None) -> Command:
    """The command of one attempt."""
    return build(
        request.recipe,
        command_of(request.stage),
        model_dir=request.model_dir,
        model_type=request.model_type,
        template=request.template,
        torch_dtype=request.torch_dtype,
        system=request.system,
        train_files=request.train_files,
        val_files=request.val_files,
        output_dir=request.output_dir,
        resume_from=resume_from,
        tokenised=tokenised.find(request),
        device=_device() if needs_launcher(request.recipe) else None,
    )


def _device() -> Literal["cpu", "cuda"]:
    return "cuda" if any(slot.device for slot in find_slots()) else "cpu"


def halved(recipe: StageRecipe) -> StageRecipe | None:
    """The recipe with a smaller batch and the same number of rows in a step, or None if that cannot be."""
    batch = recipe.per_device_train_batch_size
    if not recipe.halve_batch or batch == 1:
        return None
    smaller = batch // 2 if batch % 2 == 0 else 1
    accumulation = recipe.gradient_accumulation_steps * (batch // smaller)
    changes = {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": accumulation}
    return recipe.model_copy(update=changes)


class Attempts:
    """The attempts at one training.

    :param log: of the job, to which this process prints, too.
    """

    def __init__(self, request: TrainRequest, log: Path, build: Build = build_command) -> None:
        self._request = request
        self._log = log
        self._build = build
        self._attempts = [
            replace(attempt, cause="killed") if attempt.exit_code is None and not attempt.cause else attempt
            for attempt in read_attempts(request)
        ]
        self._nodes = Nodes.here()
        self._first = FirstNode(log.parent, self._nodes, self._say)

    def run(self) -> Failure | None:
        """Train to the end; return why it failed, if it did."""
        request = self._request
        if self._attempts and self._attempts[-1].batch < request.recipe.per_device_train_batch_size:
            # What was learnt about the memory holds for later tries, too.
            last = self._attempts[-1]
            changes = {"per_device_train_batch_size": last.batch, "gradient_accumulation_steps": last.accumulation}
            request = replace(request, recipe=request.recipe.model_copy(update=changes))
        again: dict[str, int] = {}
        while True:
            try:
                cause = self._attempt(request)
            except MedllmError:
                self._note(replace(self._attempts[-1], cause="arguments"))
                raise
            if cause is None:
                return None
            again[cause.name] = again.get(cause.name, 0) + 1
            smaller = halved(request.recipe) if cause.name == "memory" else None
            if again[cause.name] > cause.again or (cause.name == "memory" and smaller is None):
                return self._failure(request, cause)
            change = "a new port"
            if smaller:
                request = replace(request, recipe=smaller)
                batch, accumulation = smaller.per_device_train_batch_size, smaller.gradient_accumulation_steps
                change = f"a batch of {batch} rows, accumulated {accumulation} times"
            self._note(replace(self._attempts[-1], change=change))
            self._say(f"{cause.sentence}; going on with {change}")

    def _attempt(self, request: TrainRequest) -> Cause | None:
        resume_from = last_whole_checkpoint(request.output_dir)
        leftovers.remove_half_checkpoints(self._request.output_dir, self._say)
        first_step = step_of(resume_from) if resume_from else 0
        recipe = request.recipe
        attempt = Attempt(first_step, recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps)
        self._attempts.append(attempt)
        self._note(attempt)
        if resume_from and is_behind_the_last_step(resume_from):
            begun = time.monotonic()
            self._say(f"all {first_step} steps were made before it was killed: nothing is left to train")
            leftovers.close_log(request.output_dir, resume_from, self._log)
            self._note(replace(attempt, seconds=time.monotonic() - begun, exit_code=0))
            return None
        self._first.await_others()
        # Somebody may have removed the folder.
        self._log.parent.mkdir(parents=True, exist_ok=True)
        offset = self._log.stat().st_size if self._log.is_file() else 0
        kills, started = memory_kills(), time.monotonic()
        rows = sum(count_lines(path) for path in request.train_files)
        tokens = request.tokens / rows * recipe.rows_a_step
        stalled = recipe.stalled_minutes * 60
        watcher = Watcher(request.output_dir, self._log, first_step, tokens, stalled, self._say)
        cause, exit_code = self._tokenise(request, watcher)
        if cause is None and exit_code == 0:
            command = self._build(request, resume_from)
            self._say(f"attempt {len(self._attempts)}, from step {first_step}: {' '.join(command.argv)}")
            cause, exit_code = self._start(command, watcher, self._nodes)
        if cause is None and exit_code != 0:
            printed = self._printed(offset)
            if leftovers.disk_is_full(request.output_dir):
                # Then what it said of it had no room either.
                printed += f"\n{os.strerror(errno.ENOSPC)}"
            cause = find_cause(exit_code, printed, memory_kills() > kills)
            if cause.name in ("network", "killed", "unknown"):
                cause = self._first.lost(LATE_SECONDS) or cause
        if cause is None:
            # Checked once more at the end, and by steps: an exit code of 0 proves nothing.
            cause = self._unfinished(request, watcher)
        self._clear_up(cause, first_step)
        seconds = time.monotonic() - started
        self._note(replace(attempt, seconds=seconds, exit_code=exit_code, cause=cause.name if cause else ""))
        return cause

    def _tokenise(self, request: TrainRequest, watcher: Watcher) -> tuple[Cause | None, int]:
        """Make the rows ready for all ranks and attempts, unless that was done or is not wanted."""
        if not tokenised.is_wanted(request) or tokenised.find(request):
            return None, 0
        started = time.monotonic()
        command = tokenised.command(request, command_of(request.stage))
        self._say(f"making the rows ready: {' '.join(command.argv)}")
        cause, exit_code = self._start(command, watcher, Nodes())
        if cause is None and exit_code == 0:
            if not tokenised.finish(request):
                return Cause("unknown", "ms-swift made rows ready with exit code 0, and they are not there"), exit_code
            self._say(f"the rows are ready after {time.monotonic() - started:.1f} s")
        return cause, exit_code

    def _start(self, command: Command, watcher: Watcher, nodes: Nodes) -> tuple[Cause | None, int]:
        """Run a command to its end, on so many nodes; return why it was ended, if it was, and its exit code."""
        # Each attempt has a port of its own, should ranks of an earlier one, or of another job, still hold theirs.
        port = free_port()
        added = {**command.env, "MASTER_PORT": str(port), **torchrun_environment(nodes, port)}
        if nodes.count > 1:
            self._first.announce(command.argv, added)
        environment = {**os.environ, **added}
        with self._log.open("ab") as output:
            child = subprocess.Popen(
                command.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            cause = self._watch(child, watcher)
        self._end_rest()
        return cause, child.wait()

    def _watch(self, child: subprocess.Popen[bytes], watcher: Watcher) -> Cause | None:
        """Wait for the end, or end it for a cause."""
        while True:
            try:
                child.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                process = psutil.Process(child.pid)
                cause = watcher.look(process) or self._first.lost()
                if cause is None:
                    continue
                self._say(f"ending it: {cause.sentence}")
                if cause.name == "stalled":
                    dump_stacks([child.pid, *(member.pid for member in process.children(recursive=True))], self._say)
                self._end_rest()
                return cause
            return None

    def _unfinished(self, request: TrainRequest, watcher: Watcher) -> Cause | None:
        if cause := watcher.look(psutil.Process()):
            return cause if cause.name == "not a number" else None
        end = read_end(request.output_dir)
        if end and end.step < end.max_steps:
            return Cause("unknown", f"it ended with exit code 0 at step {end.step} of {end.max_steps}")
        return None

    def _clear_up(self, cause: Cause | None, first_step: int) -> None:
        if cause and cause.name in ("disk", "memory"):
            leftovers.remove_half_checkpoints(self._request.output_dir, self._say)
        if cause and cause.name == "not a number":
            leftovers.set_diverged_aside(self._request.output_dir, first_step, self._say)

    def _failure(self, request: TrainRequest, cause: Cause) -> Failure:
        sentence = cause.sentence
        if cause.name == "memory":
            batch = request.recipe.per_device_train_batch_size
            remedy = "shorten max_length" if batch == 1 else "allow halve_batch in the recipe, or shorten max_length"
            sentence += f" with a batch of {batch}: {remedy}"
        if kept := last_whole_checkpoint(request.output_dir):
            sentence += f"; {kept.name} is kept"
        return Failure(cause.name, sentence, cause.retry and cause.name != "memory")

    def _end_rest(self) -> None:
        """End what this attempt left: ranks in sessions of their own outlive their launcher."""
        if job := os.environ.get(MARK):
            end_job(job, spare=[os.getpid(), os.getppid()])

    def _printed(self, offset: int) -> str:
        if not self._log.is_file():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(offset, self._log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")

    def _note(self, attempt: Attempt) -> None:
        self._attempts[-1] = attempt
        write_json(self._request.attempts_file, [asdict(item) for item in self._attempts])

    def _say(self, text: str) -> None:
        # A full disk must not keep us from clearing up.
        with contextlib.suppress(OSError), self._log.open("ab") as file:
            file.write(f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())


def main(request_file: Path) -> int:
    """Train, leave ``failure.json`` beside the request if that fails, and return the exit code.

    On any but the first of several nodes: do what that one says.
    """
    nodes = Nodes.here()
    if nodes.rank:
        return OtherNode(request_file.parent, nodes).run()
    request = TrainRequest.from_row(read_json(request_file))
    directory = request_file.parent
    try:
        failure = Attempts(request, directory / "job.log").run()
        if failure:
            write_json(directory / "failure.json", asdict(failure))
    except MedllmError as error:
        failure = Failure("arguments", str(error), retry=False)
        write_json(directory / "failure.json", asdict(failure))
    except OSError as error:
        if error.errno not in leftovers.FULL:
            raise
        return EXIT_DISK
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
