"""Stops a process of a job by SIGSTOP at a moment that a test has named; on the path of nothing but a test's jobs.

``FREEZE_FOLDER/at-MOMENT`` arms it; whoever comes there first renames it to ``frozen``, writes its pid into it, and
stops. The moments of a training: ``start-up`` (the model is being loaded), ``step`` (a step is being logged),
``evaluation`` (a row of the validation is being scored), ``checkpoint`` (a checkpoint is half written); of a merge:
``export`` (the model is half written), ``proof`` (it is being read); of our own evaluation ``score``, and of serving
``deploy`` (the model is being loaded).

``FREEZE_FOLDER/clock`` holds the seconds by which the clock of every such process goes wrong.
"""

import contextlib
import os
import signal
import sys
import time

FOLDER = os.environ.get("FREEZE_FOLDER", "")
# The second checkpoint: there is one to go back to.
STEP, CHECKPOINT = 6, 8
OF_TRAINING = bool({"swift.cli.sft", "swift.cli.pt"} & set(sys.orig_argv))


def freeze(moment: str) -> None:
    """Stop here if a test wants it."""
    frozen = os.path.join(FOLDER, "frozen")  # noqa: PTH118 (pathlib would open files, too)
    with contextlib.suppress(OSError):
        os.rename(os.path.join(FOLDER, f"at-{moment}"), frozen)  # noqa: PTH104, PTH118
        with open(frozen, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"{os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGSTOP)


class _Watch:
    def __init__(self) -> None:
        self.lines = 0
        self.busy = False

    def __call__(self, event: str, values: tuple) -> None:
        if event != "open" or self.busy or not isinstance(values[0], str):
            return
        self.busy = True
        try:
            self.opened(values[0], str(values[1] or ""))
        finally:
            self.busy = False

    def opened(self, path: str, mode: str) -> None:
        config = path.endswith("/config.json")
        if OF_TRAINING:
            self.trained(path, mode)
        elif "swift.cli.export" in sys.orig_argv and ".part/" in path and "w" in mode:
            freeze("export")
        elif "medllm_ops.swift.proof" in sys.orig_argv and config:
            freeze("proof")
        elif "medllm_ops.evaluation.score" in sys.orig_argv and config:
            freeze("score")
        elif "medllm_ops.serving.deploy" in sys.orig_argv and config:
            freeze("deploy")

    def trained(self, path: str, mode: str) -> None:
        if path.endswith("/model/config.json"):
            freeze("start-up")
        elif path.endswith("/logging.jsonl") and "a" in mode:
            self.lines += 1
            if self.lines == 1:
                _watch_evaluation()
            if self.lines == STEP:
                freeze("step")
        elif f"/checkpoint-{CHECKPOINT}/" in path and "w" in mode:
            freeze("checkpoint")


def _watch_evaluation() -> None:
    transformers = sys.modules.get("transformers")
    if transformers is None:
        return
    original = transformers.Trainer.prediction_step

    def prediction_step(self, *arguments, **named):  # type: ignore[no-untyped-def]
        if self.state.global_step == CHECKPOINT:
            freeze("evaluation")
        return original(self, *arguments, **named)

    transformers.Trainer.prediction_step = prediction_step


def _wrong_clock(right=time.time):  # type: ignore[no-untyped-def]
    try:
        with open(os.path.join(FOLDER, "clock"), encoding="ascii") as file:  # noqa: PTH118, PTH123
            return right() + float(file.read() or 0)
    except OSError:
        return right()


if FOLDER and os.path.exists(os.path.join(FOLDER, "clock")):  # noqa: PTH110, PTH118
    time.time = _wrong_clock
if FOLDER and "torch.distributed.run" not in sys.orig_argv:
    sys.addaudithook(_Watch())
