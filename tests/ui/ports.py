"""Ports for an Airflow of a test."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int = 3) -> int:
    """The first of some ports in a row that nobody listens on.

    By chance: another Airflow that is still starting does not listen yet.
    """
    for _ in range(100):
        port = random.randrange(20_000, 29_000, 10)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for offset in range(count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return port
    raise AssertionError("no free ports in a row")
