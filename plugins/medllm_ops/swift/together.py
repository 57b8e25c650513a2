"""One training on several nodes: the first one decides what is started, the others start the same and tell how it ends.

They meet through the job's folder on the volume that all of them see. The first writes ``attempt.json``, which command
it is to be; each of the others a ``nodes/N/ready.json`` when it is there, and ``nodes/N/ended.json`` when its part of
an attempt has ended badly. The ranks themselves find each other by torchrun's rendezvous at the first node's address.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medllm_ops.compute.job import Job
from medllm_ops.compute.nodes import Nodes
from medllm_ops.compute.processes import MARK, end_job
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.causes import Cause, find_cause, memory_kills

POLL_SECONDS = 0.5
# The first node says that it lives every few seconds.
SILENT_SECONDS = 600.0
# A rank that dies is noticed by the others at once; why it died is told by its own node a moment later.
LATE_SECONDS = 10.0
LOG_TAIL_BYTES = 262_144

Say = Callable[[str], None]


def torchrun_environment(nodes: Nodes, port: int) -> dict[str, str]:
    """Where the ranks of all nodes meet, as torchrun reads it; empty for one node."""
    if nodes.count == 1:
        return {}
    return {
        "PET_NNODES": str(nodes.count),
        "PET_NODE_RANK": str(nodes.rank),
        "PET_MASTER_ADDR": nodes.master,
        "PET_MASTER_PORT": str(port),
    }


class FirstNode:
    """The first node's side; for a job on one node it does nothing.

    :param directory: the job's. :param say: writes a line into its log.
    """

    def __init__(self, directory: Path, nodes: Nodes, say: Say) -> None:
        self._directory = directory
        self._nodes = nodes
        self._say = say
        self._number = 0

    def await_others(self) -> None:
        """Begin an attempt: wait until all nodes are there.

        No limit of time: who waits for the job sees which pods are missing, and ends all if it takes too long.
        """
        self._number += 1
        told = None
        while missing := [rank for rank in range(1, self._nodes.count) if not self._is_ready(rank)]:
            if missing != told:
                self._say(f"waits for nodes {', '.join(map(str, missing))} of {self._nodes.count}")
                told = missing
            time.sleep(POLL_SECONDS)

    def announce(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Tell the others what to start now."""
        row = {"start": self._nodes.start, "number": self._number, "argv": list(argv), "env": dict(environment)}
        write_json(self._directory / "attempt.json", row)

    def lost(self, seconds: float = 0.0) -> Cause | None:
        """Why the part of another node has ended badly, if it has; looked for so long.

        A cause that names itself is told before one that only says that ranks lost each other.
        """
        deadline = time.monotonic() + seconds
        while True:
            causes = [cause for rank in range(1, self._nodes.count) if (cause := self._ended(rank))]
            clear = [cause for cause in causes if cause.name not in ("network", "killed", "unknown")]
            if clear or self._nodes.count == 1 or time.monotonic() >= deadline:
                return next(iter([*clear, *causes]), None)
            time.sleep(POLL_SECONDS)

    def _is_ready(self, rank: int) -> bool:
        return _read(_folder(self._directory, rank) / "ready.json").get("start") == self._nodes.start

    def _ended(self, rank: int) -> Cause | None:
        row = _read(_folder(self._directory, rank) / "ended.json")
        if (row.get("start"), row.get("number")) != (self._nodes.start, self._number):
            return None
        return Cause(**row["cause"])


class OtherNode:
    """Another node's side.

    :param directory: the job's.
    """

    def __init__(self, directory: Path, nodes: Nodes) -> None:
        self._directory = directory
        self._nodes = nodes
        self._folder = _folder(directory, nodes.rank)
        self._log = self._folder / "job.log"

    def run(self) -> int:
        """Start what the first node announces, until it has ended; return the exit code."""
        child: subprocess.Popen[bytes] | None = None
        number, offset, kills = 0, 0, 0
        write_json(self._folder / "ready.json", {"start": self._nodes.start})
        while not self._over():
            row = _read(self._directory / "attempt.json")
            if row.get("start") == self._nodes.start and row["number"] != number:
                self._end(child)
                number, offset, kills = row["number"], self._size(), memory_kills()
                child = subprocess.Popen(row["argv"], stdin=subprocess.DEVNULL, env=self._environment(row["env"]))
            if child and child.poll() is not None:
                self._end(child)
                if child.returncode:
                    found = find_cause(child.returncode, self._printed(offset), memory_kills() > kills)
                    sentence = f"node {self._nodes.rank}: {found.sentence}; log {self._log}"
                    cause = {**asdict(found), "sentence": sentence}
                    row = {"start": self._nodes.start, "number": number, "cause": cause}
                    write_json(self._folder / "ended.json", row)
                child = None
            time.sleep(POLL_SECONDS)
        self._end(child)
        return 0

    def _over(self) -> bool:
        """Whether the first node has ended, well or not, or has not been heard of."""
        job = Job.read(self._directory)
        if job.result():
            return True
        beat = self._directory / "supervisor.json"
        return beat.is_file() and time.time() - beat.stat().st_mtime > SILENT_SECONDS

    def _environment(self, announced: Mapping[str, str]) -> dict[str, str]:
        own = torchrun_environment(self._nodes, int(announced["PET_MASTER_PORT"]))
        return {**os.environ, **announced, **own}

    def _end(self, child: subprocess.Popen[bytes] | None) -> None:
        if child and (job := os.environ.get(MARK)):
            end_job(job, spare=[os.getpid(), os.getppid()])
            child.wait()

    def _size(self) -> int:
        return self._log.stat().st_size if self._log.is_file() else 0

    def _printed(self, offset: int) -> str:
        with self._log.open("rb") as file:
            file.seek(max(offset, self._size() - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")


def _folder(directory: Path, rank: int) -> Path:
    return directory / "nodes" / str(rank)


def _read(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}
