"""Where medllm-ops keeps its state."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The absolute folder of all state: ``MEDLLM_HOME``, or ``var/`` in the current directory."""
    return Path(os.environ.get("MEDLLM_HOME") or "var").absolute()
