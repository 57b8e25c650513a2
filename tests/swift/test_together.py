"""The nodes of one training: one decides, the others follow and tell how it ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.compute.job import Job, JobResult
from medllm_ops.compute.nodes import Nodes
from medllm_ops.compute.processes import MARK, end_job
from medllm_ops.files import write_json
from medllm_ops.swift import together
from medllm_ops.swift.causes import Cause
from medllm_ops.swift.together import FirstNode, OtherNode, torchrun_environment

Wait = Callable[[Callable[[], object]], None]
# Says which node and which attempt it is, and waits until it is ended.
STAYS = (
    "import os, pathlib, time; rank = os.environ['PET_NODE_RANK']; "
    "pathlib.Path(os.environ['SEEN']).open('a').write(rank + os.environ['PET_MASTER_PORT'] + ' '); time.sleep(600)"
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(together, "POLL_SECONDS", 0.02)
    monkeypatch.setenv(MARK, "together-test")
    Job("id", "key", ("true",), tmp_path, nodes=2).write()
    (tmp_path / "nodes" / "1").mkdir(parents=True)
    (tmp_path / "nodes" / "1" / "job.log").touch()
    yield tmp_path
    end_job("together-test", grace_seconds=0.1)


@pytest.fixture
def other(directory: Path) -> Iterator[threading.Thread]:
    """The second of two nodes; it follows until the job has a result."""
    thread = threading.Thread(target=OtherNode(directory, Nodes(2, 1, "first", "now")).run)
    thread.start()
    yield thread
    write_json(directory / "result.json", asdict(JobResult("key", 0, 1.0)))
    thread.join(30)
    assert not thread.is_alive()


def first_of(directory: Path, start: str = "now", said: list[str] | None = None) -> FirstNode:
    return FirstNode(directory, Nodes(2, 0, "first", start), (said if said is not None else []).append)


def announce(first: FirstNode, directory: Path, code: str, port: int = 1) -> Path:
    seen = directory / "seen"
    added = {**torchrun_environment(Nodes(2, 0, "first"), port), "SEEN": str(seen)}
    first.await_others()
    first.announce((sys.executable, "-c", code), added)
    return seen


@pytest.mark.usefixtures("other")
def test_the_other_starts_what_the_first_announces_under_its_own_number(directory: Path, wait_until: Wait) -> None:
    seen = announce(first_of(directory), directory, STAYS)
    wait_until(lambda: seen.is_file() and seen.read_text() == "11 ")


@pytest.mark.usefixtures("other")
def test_a_new_attempt_takes_the_place_of_the_last(directory: Path, wait_until: Wait) -> None:
    first = first_of(directory)
    seen = announce(first, directory, STAYS)
    wait_until(seen.is_file)
    announce(first, directory, STAYS, port=2)
    wait_until(lambda: seen.read_text() == "11 12 ")


@pytest.mark.usefixtures("other")
def test_the_first_hears_why_the_other_ended(directory: Path) -> None:
    first = first_of(directory)
    log = directory / "nodes" / "1" / "job.log"
    announce(first, directory, f"open({str(log)!r}, 'a').write('CUDA out of memory'); raise SystemExit(1)")
    cause = first.lost(30)
    assert cause
    assert (cause.name, cause.again) == ("memory", 8)
    assert cause.sentence.startswith("node 1: it ran out of memory; log ")
    # Of the next attempt nothing is known yet.
    announce(first, directory, STAYS)
    assert first.lost() is None


def test_what_an_earlier_start_left_counts_no_more(directory: Path, wait_until: Wait) -> None:
    write_json(directory / "attempt.json", {"start": "before", "number": 1, "argv": ["/none"], "env": {}})
    write_json(directory / "nodes" / "1" / "ready.json", {"start": "before"})
    cause = asdict(Cause("memory", "it ran out of memory"))
    write_json(directory / "nodes" / "1" / "ended.json", {"start": "before", "number": 1, "cause": cause})
    said: list[str] = []
    first = first_of(directory, said=said)
    waiting = threading.Thread(target=announce, args=(first, directory, STAYS))
    waiting.start()
    wait_until(lambda: said == ["waits for nodes 1 of 2"])
    write_json(directory / "nodes" / "1" / "ready.json", {"start": "now"})
    waiting.join(30)
    assert not waiting.is_alive()
    assert first.lost() is None


def test_the_other_ends_with_the_first(directory: Path, other: threading.Thread, wait_until: Wait) -> None:
    seen = announce(first_of(directory), directory, STAYS)
    wait_until(seen.is_file)
    write_json(directory / "result.json", asdict(JobResult("key", 1, 1.0)))
    wait_until(lambda: not other.is_alive())


def test_the_other_ends_where_the_first_is_not_heard_of(
    directory: Path, other: threading.Thread, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "SILENT_SECONDS", 0.1)
    write_json(directory / "supervisor.json", {})
    wait_until(lambda: not other.is_alive())


def test_a_job_on_one_node_waits_for_nobody_and_writes_nothing(tmp_path: Path) -> None:
    first = FirstNode(tmp_path, Nodes(), print)
    first.await_others()
    assert first.lost(30) is None
    assert list(tmp_path.iterdir()) == []
    assert torchrun_environment(Nodes(), 1) == {}


def test_a_node_reads_what_its_pod_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {"NODES": "4", "MASTER": "a.b.svc", "START": "x"}
    assert Nodes.here() == Nodes(1, 0, "127.0.0.1", "")
    for name, value in told.items():
        monkeypatch.setenv(f"MEDLLM_{name}", value)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert Nodes.here() == Nodes(4, 3, "a.b.svc", "x")
