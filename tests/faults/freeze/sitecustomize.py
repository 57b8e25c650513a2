"""Stops a process of ms-swift by SIGSTOP at a moment that a test has named; on the path of nothing but a test's jobs.

``FREEZE_FOLDER/at-MOMENT`` arms it; whoever comes there first renames it to ``frozen``, writes its pid into it, and
stops. The moments: ``start-up`` (the model is being loaded), ``step`` (a step is being logged), ``checkpoint`` (a
checkpoint is half written), ``evaluation`` (a row of the validation is being scored).
"""

import contextlib
import os
import signal
import sys

FOLDER = os.environ.get("FREEZE_FOLDER", "")
# The second checkpoint: there is one to go back to.
STEP, CHECKPOINT = 6, 8


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


if FOLDER and {"swift.cli.sft", "swift.cli.pt"} & set(sys.orig_argv) and "torch.distributed.run" not in sys.orig_argv:
    sys.addaudithook(_Watch())
