"""A plugin for ms-swift that notes the time of each step: ``--external_plugins step_clock.py --callbacks step_clock``.

Each line of the file that ``MEDLLM_STEP_CLOCK`` names is ``[step, wall seconds, processor seconds]`` of the process
with all its threads, since some moment; step 0 is when the training begins.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

NAME = "step_clock"
FILE = "MEDLLM_STEP_CLOCK"


def register() -> None:
    """Make the callback known to ms-swift, under :data:`NAME`."""
    from swift.callbacks import TrainerCallback, callbacks_map

    class StepClock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.note(0)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.note(state.global_step)

        def note(self, step: int) -> None:
            with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
                file.write(json.dumps([step, time.perf_counter(), time.process_time()]) + "\n")

    callbacks_map[NAME] = StepClock


if __name__ != "__main__":
    register()
