"""What a training runs on: a GPU of the table, a GPU of which only the memory is known, or this host's processor."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from medllm_ops.compute.gpus import Slot
from medllm_ops.errors import MedllmError
from medllm_ops.yaml_file import read_yaml

FILE = Path(__file__).with_name("gpus.yaml")
MEBI_IN_GIBI = 1024
NOT_VALIDATED = "not validated on a GPU"


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU.

    :param memory: GiB. :param half: dense peak with float16 and bfloat16, TFLOP/s; 0 if unknown.
    :param single: likewise with float32.
    """

    name: str
    memory: float
    half: float = 0.0
    single: float = 0.0
    bfloat16: bool = True
    source: str = ""


@cache
def cards() -> dict[str, Card]:
    """The GPUs of the table by name."""
    return {name: Card(name, **values) for name, values in read_yaml(FILE).items()}


def find_card(name: str) -> Card:
    """A GPU by its name in the table, in letters of either case.

    :raises MedllmError: with the names there are, or the one that was meant.
    """
    by_name = {known.lower(): card for known, card in cards().items()}
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")
    if wanted in by_name:
        return by_name[wanted]
    close = difflib.get_close_matches(wanted, by_name, n=1)
    hint = f"did you mean {by_name[close[0]].name}?" if close else "give its memory with --memory"
    raise MedllmError(f"GPU {name!r} is not in the table; {hint} ({', '.join(cards())})")


def card_of(slot: Slot) -> Card | None:
    """The GPU in a slot, with the memory that the driver shows; None for a declared slot.

    Its rates are the table's if the driver's name holds the table's, such as ``NVIDIA A100-SXM4-80GB``.
    """
    if slot.device is None:
        return None
    memory = slot.memory / MEBI_IN_GIBI
    words = set(re.split(r"[^a-z0-9]+", slot.model.lower()))
    fitting = [card for card in cards().values() if set(card.name.lower().split("-")) <= words]
    if not fitting:
        return Card(slot.model or slot.name, memory)
    return replace(max(fitting, key=lambda card: len(card.name)), memory=memory or fitting[0].memory)
