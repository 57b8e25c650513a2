"""Whether a service of the compose file is well: exit code 0, or 1 with a sentence.

Python's own library only, and Celery's where a worker is asked. Airflow, which takes seconds to import, is not.

``healthy.py URL PART…`` asks Airflow's health page, whose parts are ``metadatabase``, ``scheduler``, ``triggerer``
and ``dag_processor``; without a part it is enough that the page answers with success.
``healthy.py trainer`` looks at what this host's trainer last wrote into the run volume.
``healthy.py worker`` asks this host's Celery worker for an answer by way of the broker.
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


def worker() -> str | None:
    """What is wrong with the Celery worker of this host, or None."""
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"], set_as_current=False)
    try:
        # The broker is asked once, and not again and again for longer than the health check may take.
        with app.connection(transport_options={"max_retries": 1}) as connection:
            answers = app.control.ping([name], timeout=ASK_SECONDS / 2, connection=connection, limit=1)
    except Exception as error:  # noqa: BLE001  of Celery, Kombu or Redis: each means that it cannot be asked
        # Its text alone: the broker's address has a password.
        return f"{name}: the broker does not answer: {type(error).__name__}: {error}"
    return None if answers else f"{name}: no answer within {ASK_SECONDS / 2:.0f} s"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: healthy.py URL PART… | healthy.py trainer | healthy.py worker")
    checks = {"trainer": trainer, "worker": worker}
    sys.exit(checks[sys.argv[1]]() if sys.argv[1] in checks else ask(sys.argv[1], sys.argv[2:]))
