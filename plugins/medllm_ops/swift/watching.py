"""A training process watched from beside it: heartbeats, a loss that is no number, and a hang."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from medllm_ops.swift.causes import Cause
from medllm_ops.swift.progress import STEP_KEY

HEARTBEAT_SECONDS = 30.0
POLL_SECONDS = 1.0
DUMP_SECONDS = 60
# The bars of swift: "Map:  33%|███▎      | 2/6 [", "Train: …", "Val: …".
_COUNTER = re.compile(rb"(\d+/\d+) \[")


class Watcher:
    """Looks at a running training every second.

    :param output_dir: where ms-swift logs; :param log: what the process prints to.
    :param first_step: where this attempt went on.
    :param tokens_per_step: what a step trains on, for the speed.
    :param stalled_seconds: how long nothing may move.
    :param say: gets each heartbeat.
    """

    def __init__(
        self,
        output_dir: Path,
        log: Path,
        first_step: int,
        tokens_per_step: float,
        stalled_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._output_dir = output_dir
        self._log = log
        self._file = output_dir / "logging.jsonl"
        # What an earlier attempt logged says nothing about this one.
        self._offset = self._file.stat().st_size if self._file.is_file() else 0
        self._rows = 0
        self._step, self._max_steps, self._loss, self._gpu = first_step, 0, math.nan, 0.0
        self._first_step = first_step
        self._tokens_per_step = tokens_per_step
        self._stalled_seconds = stalled_seconds
        self._say = say
        self._begin: tuple[int, float] | None = None
        self._mark: tuple[object, ...] = ()
        self._moved = self._told = time.monotonic()
        self._told_step = first_step

    def look(self, process: psutil.Process) -> Cause | None:
        """Tell how it goes; return why the training has to be ended, if it has to."""
        now = time.monotonic()
        for row in self._new_rows():
            before = self._step
            step, max_steps = row[STEP_KEY].split("/")
            self._step, self._max_steps = int(step), int(max_steps)
            self._gpu = float(row.get("memory(GiB)", self._gpu))
            self._loss = float(row.get("loss", self._loss))
            if "loss" in row and not math.isfinite(self._loss):
                sentence = f"the loss is {self._loss} at step {self._step}, and was a number at step {before}"
                return Cause("not a number", f"{sentence}: try a lower learning rate", retry=False)
        mark = self._position()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        self._heartbeat(now, process)
        if now - self._moved > self._stalled_seconds:
            minutes = self._stalled_seconds / 60
            return Cause(
                "stalled", f"nothing moved for {minutes:g} minutes; the stacks are in the log if py-spy is there"
            )
        return None

    def _new_rows(self) -> Iterator[dict[str, Any]]:
        """What was logged since the last look: whole lines that tell a step."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                self._rows += 1
                # Half a line of a killed attempt may stand before the first one.
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if STEP_KEY in row:
                        yield row

    def _position(self) -> tuple[object, ...]:
        """Whatever moves while a training works: steps, progress bars, files of a checkpoint that is being written."""
        saved = []
        with contextlib.suppress(OSError):
            saved = sorted((path.name, path.stat().st_size) for path in self._output_dir.glob("checkpoint-*/*"))
        return self._rows, _last_counter(self._log), saved

    def _heartbeat(self, now: float, process: psutil.Process) -> None:
        step = self._step
        if step <= self._first_step:
            return
        self._begin = self._begin or (step, now)
        if step == self._told_step or now - self._told < HEARTBEAT_SECONDS:
            return
        self._told_step, self._told = step, now
        since_step, since = self._begin
        parts = [f"step {step} of {self._max_steps}", f"loss {self._loss:.4f}"]
        if step > since_step:
            pace = (now - since) / (step - since_step)
            parts += [f"{self._tokens_per_step / pace:.0f} tokens/s", f"{_hours((self._max_steps - step) * pace)} left"]
        parts.append(f"{_resident(process) / 2**30:.1f} GiB" + (f", {self._gpu:g} GiB on the GPU" if self._gpu else ""))
        self._say("heartbeat: " + ", ".join(parts))


def dump_stacks(pids: Iterable[int], say: Callable[[str], None]) -> None:
    """Write where each process stands, if py-spy is installed."""
    program = shutil.which("py-spy")
    if program is None:
        say("py-spy is not installed: no stacks")
        return
    for pid in pids:
        command = [program, "dump", "--pid", str(pid)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DUMP_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"py-spy dump of pid {pid} failed: {error}")
            continue
        say(f"py-spy dump of pid {pid}:\n{done.stdout}{done.stderr}")


def _last_counter(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            found = _COUNTER.findall(file.read())
    except OSError:
        return b""
    return found[-1] if found else b""


def _resident(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{seconds:.0f} s"
