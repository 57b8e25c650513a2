"""Where medllm-ops keeps its state, and where its recipes and data sets lie."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The absolute folder of all state: ``MEDLLM_HOME``, or ``var/`` in the current directory."""
    return Path(os.environ.get("MEDLLM_HOME") or "var").expanduser().absolute()


def include() -> Path:
    """The absolute folder of recipes and data sets: ``MEDLLM_INCLUDE``, or ``include/`` of the checkout."""
    checkout = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("MEDLLM_INCLUDE") or checkout / "include").expanduser().absolute()
