"""Whether a service of the compose file is well: exit code 0, or 1 with a sentence. Python's own library only.

``healthy.py URL PART…`` asks Airflow's health page, whose parts are ``metadatabase``, ``scheduler``, ``triggerer``
and ``dag_processor``; without a part it is enough that the page answers with success.
``healthy.py trainer`` looks at what this host's trainer last wrote into the run volume.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import urllib.request
from pathlib import Path

ASK_SECONDS = 10
# The trainer writes every five seconds; a slow network volume and a busy host are allowed for.
SILENT_SECONDS = 60.0


def ask(url: str, parts: list[str]) -> str | None:
    """What is wrong by Airflow's own word, or None."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_SECONDS) as answer:
            health = json.load(answer) if parts else {}
        sick = [part for part in parts if health[part]["status"] != "healthy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{url}: {error!r}"
    return f"{url}: not healthy: {', '.join(sick)}" if sick else None


def trainer() -> str | None:
    """What is wrong with the trainer of this host, or None."""
    path = Path(os.environ["MEDLLM_HOME"]) / "trainer" / "trainers" / f"{socket.gethostname()}.json"
    try:
        silent = time.time() - float(json.loads(path.read_text(encoding="utf-8"))["time"])
    except (OSError, ValueError, KeyError) as error:
        return f"{path}: {error!r}"
    return f"{path}: written {silent:.0f} s ago" if silent > SILENT_SECONDS else None


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: healthy.py URL PART… | healthy.py trainer")
    sys.exit(trainer() if sys.argv[1] == "trainer" else ask(sys.argv[1], sys.argv[2:]))
