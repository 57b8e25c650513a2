"""The log of a pod in the log of whoever waits for it, for as long as its stream holds, and again when it is back."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime
from types import TracebackType

from medllm_ops.compute.kubernetes.cluster import Cluster, ClusterError

log = logging.getLogger(__name__)

AGAIN_SECONDS = 3.0
# For so long the last lines are waited for.
CLOSE_SECONDS = 3.0
# The server's clock and ours differ: ask for more, and leave out what was printed.
OVERLAP_SECONDS = 60


class LogFollower:
    """Prints what a pod prints; a context manager, beside whose body it works.

    Nothing depends on it: the job's own log on the shared volume has every line, and a stream that is lost is only
    opened again.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._pod = ""
        self._changed = threading.Event()
        self._closing = threading.Event()
        # A daemon: a stream in which nothing is said would keep the process from ending.
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> LogFollower:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._changed.set()
        self._thread.join(CLOSE_SECONDS)

    def follow(self, pod: str) -> None:
        """From now on it is this pod that is followed."""
        if pod != self._pod:
            self._pod = pod
            self._changed.set()

    def _work(self) -> None:
        followed, last, asked = "", "", 0.0
        # A pod that was named at the very end is read once, too.
        while not self._closing.is_set() or self._pod != followed:
            if not self._pod:
                self._changed.wait()
                continue
            if self._pod != followed:
                followed, last, asked = self._pod, "", 0.0
            began = time.monotonic()
            try:
                seconds = int(began - asked) + OVERLAP_SECONDS if last else None
                for line in self._cluster.follow_log(followed, seconds):
                    stamp, _, text = line.partition(" ")
                    if _later(stamp, last):
                        last, asked = stamp, time.monotonic()
                        log.info("%s", text)
            except ClusterError as error:
                log.warning("the log of %s is lost for now: %s", followed, error)
            except Exception as error:  # noqa: BLE001  whatever breaks a stream: it is opened again
                log.info("the log of %s broke off (%s)", followed, error)
            self._closing.wait(AGAIN_SECONDS)


def _later(stamp: str, last: str) -> bool:
    """Whether a line is newer than the last one; times are of RFC 3339, in nanoseconds, and always in UTC."""
    try:
        datetime.fromisoformat(stamp[:19])
    except ValueError:
        return False
    return stamp.rstrip("Z").ljust(29, "0") > last.rstrip("Z").ljust(29, "0")
