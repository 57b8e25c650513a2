"""How jobs are run here, as the environment says; each with its default.

``MEDLLM_TRAINER``: ``on-demand`` (a task starts the trainer on this host) or ``service`` (a trainer runs somewhere
on the same run volume, and takes what lies in its queue).

``MEDLLM_GPUS``: numbers of the GPUs that jobs may have, such as ``0,2``; all of them by default.

``MEDLLM_SLOTS``: where the driver shows no GPU, or ``nvidia-smi`` is not there: how many jobs that want one may run at
once; 1 by default.
"""

from __future__ import annotations

import os
from typing import Literal

from medllm_ops.errors import MedllmError

TrainerMode = Literal["on-demand", "service"]


def trainer_mode() -> TrainerMode:
    """Whether a task starts the trainer itself.

    :raises MedllmError: if the variable holds another word.
    """
    mode = os.environ.get("MEDLLM_TRAINER") or "on-demand"
    if mode == "service":
        return "service"
    if mode == "on-demand":
        return "on-demand"
    raise MedllmError(f"MEDLLM_TRAINER={mode}: it is on-demand or service")


def allowed_gpus() -> frozenset[int] | None:
    """The numbers of the GPUs that jobs may have; None for all.

    :raises MedllmError: if they are no numbers.
    """
    text = os.environ.get("MEDLLM_GPUS", "").strip()
    if not text:
        return None
    try:
        return frozenset(int(number) for number in text.split(","))
    except ValueError:
        raise MedllmError(f"MEDLLM_GPUS={text}: numbers with commas between them, such as 0,2") from None


def declared_slots() -> int:
    """How many jobs that want a GPU run at once where none can be seen.

    :raises MedllmError: if it is no number from 1 to 64.
    """
    text = os.environ.get("MEDLLM_SLOTS") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise MedllmError(f"MEDLLM_SLOTS={text}: a number from 1 to 64")
    return int(text)
