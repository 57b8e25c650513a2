"""What the tests of faults share: a small training, a way to stop it at a moment, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from medllm_ops.compute.job import Job
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import ProcessIdentity, end_job, marked_processes
from medllm_ops.compute.spool import Spool
from medllm_ops.files import write_json_lines
from medllm_ops.swift.progress import STEP_KEY, read_log
from medllm_ops.swift.recipe import StageRecipe
from medllm_ops.swift.request import TrainRequest
from medllm_ops.swift.train import train

HERE = Path(__file__).parent
STEPS, SAVE_STEPS = 12, 4
ROWS, VAL_ROWS = 64, 6
DEADLINE = 240.0
# In the order in which they come.
MOMENTS = ("start-up", "step", "evaluation", "checkpoint")


def wait_for(what: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait for something that must happen, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def make_request(folder: Path, model: Path, **settings: Any) -> TrainRequest:
    """A training of 12 steps with a checkpoint and a validation every 4."""
    rows = [
        {
            "id": f"r{number}",
            "messages": [
                {"role": "user", "content": f"Which dose of drug {number}?"},
                {"role": "assistant", "content": f"Take {number} milligrams of it for {number * 7} days."},
            ],
        }
        for number in range(ROWS)
    ]
    write_json_lines(folder / "train.jsonl", rows)
    write_json_lines(folder / "val.jsonl", rows[:VAL_ROWS])
    recipe = StageRecipe(
        lora_rank=4,
        lora_alpha=8,
        lora_dropout=0,
        learning_rate=5e-3,
        max_steps=STEPS,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=1,
        max_length=256,
        save_steps=SAVE_STEPS,
        eval_steps=SAVE_STEPS,
        logging_steps=1,
        gradient_checkpointing=False,
    ).model_copy(update=settings)
    files = ((folder / "train.jsonl",), (folder / "val.jsonl",))
    return TrainRequest(
        "sft",
        recipe,
        model,
        "qwen2",
        "qwen2_5",
        *files,
        folder / "stage",
        torch_dtype="float32",
        system="",
        tokens=2560,
    )


def losses(output: Path) -> dict[int, float]:
    """The last loss that was logged for each step."""
    return {int(row[STEP_KEY].split("/")[0]): row["loss"] for row in read_log(output) if "loss" in row}


@dataclass
class Watched:
    """Work that a worker waits for in a thread, so that the test can do something to it.

    :param directory: of its job. :param freezer: see ``freeze/sitecustomize.py``. :param work: what the worker does.
    """

    directory: Path
    freezer: Path
    work: Callable[[LocalPlace], Any]
    place: LocalPlace = field(default_factory=LocalPlace)
    outcome: list[Any] = field(default_factory=list)
    thread: threading.Thread | None = None
    frozen: int = 0

    @property
    def job(self) -> Job | None:
        """The job of the work."""
        return Job.find(self.directory)

    def start(self) -> None:
        """Do the work in a thread: a worker that watches."""
        self.outcome.clear()

        def work() -> None:
            try:
                self.outcome.append(self.work(self.place))
            except BaseException as error:  # noqa: BLE001 (the test looks at it)
                self.outcome.append(error)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def start_frozen(self, moment: str) -> None:
        """Do the work, and return when its process has stopped itself at a moment."""
        self.arm(moment)
        self.start()
        self.wait_frozen()

    def arm(self, moment: str) -> None:
        """Let a process of the work stop itself at the next such moment."""
        (self.freezer / f"at-{moment}").touch()

    def wait_frozen(self) -> None:
        """Return when it has stopped itself."""
        frozen = self.freezer / "frozen"
        wait_for(lambda: self.outcome or (frozen.is_file() and frozen.read_text().endswith("\n")))
        assert not self.outcome, f"it ended before that moment: {self.outcome}"
        self.frozen = int(frozen.read_text())
        frozen.unlink()
        wait_for(lambda: psutil.Process(self.frozen).status() == psutil.STATUS_STOPPED)

    def thaw(self) -> None:
        """Let it go on, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.frozen, signal.SIGCONT)

    def victim(self, role: str) -> int:
        """The pid of one of those who take part; ``swift`` is the one that has stopped itself."""
        if role == "trainer":
            # The worker starts another one where it has ended.
            return int(wait_for(self._trainer))
        if role == "swift":
            return self.frozen
        words = {
            "supervisor": "medllm_ops.compute.supervisor",
            "attempts": "medllm_ops.swift.attempts",
            "launcher": "torch.distributed.run",
            "merge": "medllm_ops.swift.merge",
        }
        assert self.job
        for process in marked_processes(self.job.id):
            if any(words[role] in word for word in process.cmdline()):
                return process.pid
        raise AssertionError(f"no {role}")

    def _trainer(self) -> int:
        living = [ProcessIdentity.from_row(row) for row in self.place.spool.trainers()]
        return next((one.pid for one in living if one.alive()), 0)

    def strike(self, role: str, number: int) -> None:
        """Send a signal, and let ms-swift go on as soon as the news has reached it."""
        identity = ProcessIdentity.of(self.victim(role))
        os.kill(identity.pid, number)
        if role == "trainer":
            wait_for(lambda: not identity.alive())
        elif role != "swift":
            wait_for(lambda: is_told_to_end(self.frozen))
        self.thaw()

    def end(self) -> Any:
        """What the one who watches got: a result, or an error."""
        assert self.thread
        self.thread.join(DEADLINE)
        assert self.outcome, "it did not end"
        return self.outcome[0]

    def succeed(self) -> Any:
        """What came of it: it must have ended well."""
        outcome = self.end()
        if isinstance(outcome, BaseException):
            raise AssertionError(f"it failed: {outcome}") from outcome
        return outcome

    def assert_clear(self) -> None:
        """No process, no lease, no wish and no entry is left, and the job's state is one word."""
        assert self.job
        assert_clear(self.job.id, self.place.spool)


class Trial(Watched):
    """A training."""

    def __init__(self, request: TrainRequest, freezer: Path) -> None:
        super().__init__(request.directory / "job", freezer, lambda place: train(request, place))
        self.request = request


def is_told_to_end(pid: int) -> bool:
    """Whether a stopped process has SIGTERM before it, or lives no more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    waiting = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
    return bool(waiting & 1 << signal.SIGTERM - 1)


def assert_clear(job: str, spool: Spool) -> None:
    """No process of the job, no lease, no wish is left, and its entry says that it ended."""
    wait_for(lambda: not list(marked_processes(job)), 60)
    wait_for(lambda: not Leases(spool.folder / "leases").held(), 60)
    entry = spool.find(job)
    assert entry
    assert entry.state == "ended"
    assert [*spool.queued(), *spool.running()] == []
    assert list(spool.folder.glob("stop/*")) == []


def trainers_of(home: Path) -> Iterator[psutil.Process]:
    """The trainers that were started for a home."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("MEDLLM_HOME") == str(home) and "medllm_ops.compute.trainer" in process.cmdline():
                yield process


def leave_nothing(home: Path) -> None:
    """End what a test that failed has left."""
    spool = Spool(home / "trainer")
    for process in trainers_of(home):
        with contextlib.suppress(psutil.Error):
            process.kill()
    for entry in spool.entries():
        for process in marked_processes(entry.id):
            with contextlib.suppress(psutil.Error):
                process.kill()
        end_job(entry.id, grace_seconds=0.1)


def difference(some: dict[int, float], others: dict[int, float]) -> float:
    """The largest difference of two courses of losses."""
    assert some.keys() == others.keys() == set(range(1, STEPS + 1))
    return max(abs(some[step] - others[step]) for step in some)
