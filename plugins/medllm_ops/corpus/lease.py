"""Who may write to a source's tables: one writer at a time, on one host or many.

A lease is an object whose name is a number, the fencing token; whoever creates the next number holds the lease
(https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html). Its holder says again and again that it
is alive. A writer that slept through its lease finds a higher token and stops; what it may have written to a table
meanwhile is in no manifest, and the next writer undoes it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psutil

from medllm_ops.corpus.storage import Storage, StorageError
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

SECONDS = 60.0
"""A holder that was silent for so long has lost its lease."""
_POLL_SECONDS = 0.5
_KEPT = 5


class LeaseError(MedllmError):
    """Somebody else holds the lease, or took it over."""


class Lease:
    """The right to write, as long as :meth:`check` says so."""

    def __init__(self, storage: Storage, name: str, token: int, seconds: float) -> None:
        self.token = token
        self._storage = storage
        self._name = name
        self._seconds = seconds
        self._released = False

    def check(self) -> None:
        """Make sure that the lease is held, and that nobody took over.

        :raises LeaseError: naming who did.
        """
        if self._released:
            raise LeaseError(f"the lease on {self._name} was given back: open another writer")
        token, holder = _latest(self._storage, self._name)
        if token != self.token:
            raise LeaseError(
                f"the lease on {self._name} went to {_who(holder)} while this process was silent; "
                f"nothing of its unfinished work was kept: run it again"
            )

    def renew(self) -> None:
        """Say that the holder is alive."""
        self._say(released=False)

    def release(self) -> None:
        """Let the next one in at once."""
        self._released = True
        self._say(released=True)

    def _say(self, *, released: bool) -> None:
        self._storage.write(_key(self._name, self.token), _statement(self._seconds, released))


@contextmanager
def hold(storage: Storage, name: str, wait: float = 0, seconds: float = SECONDS) -> Iterator[Lease]:
    """Hold the lease on ``name``; a thread renews it as long as the block runs.

    :param wait: seconds to wait for the holder; 0 says at once who it is.
    :raises LeaseError: naming the holder, if it is still there after that.
    """
    lease = _acquire(storage, name, wait, seconds)
    done = threading.Event()
    renewing = threading.Thread(target=_keep_renewing, args=(lease, done, seconds / 4), daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        done.set()
        renewing.join()
        _try(lease.release, "given back")


def is_held(storage: Storage, name: str, token: int) -> bool:
    """Whether the lease on ``name`` that has this token is held at this moment."""
    latest, holder = _latest(storage, name)
    return latest == token and not _is_over(holder)


def _keep_renewing(lease: Lease, done: threading.Event, every: float) -> None:
    while not done.wait(every):
        _try(lease.renew, "renewed")


def _try(say: Callable[[], None], what: str) -> None:
    try:
        say()
    except (StorageError, OSError) as error:  # without it, the lease runs out
        log.warning("the lease could not be %s: %s", what, error)


def _acquire(storage: Storage, name: str, wait: float, seconds: float) -> Lease:
    deadline = time.monotonic() + wait
    told = False
    while True:
        token, holder = _latest(storage, name)
        if _is_over(holder):
            if not storage.create(_key(name, token + 1), _statement(seconds)):
                continue  # somebody was faster: see who
            for key in storage.keys(f"leases/{name}/")[:-_KEPT]:
                storage.delete(key)
            return Lease(storage, name, token + 1, seconds)
        if time.monotonic() >= deadline:
            raise LeaseError(f"{name} is being written by {_who(holder)}; wait until it has ended")
        if not told:
            log.info("waiting for %s to finish with %s", _who(holder), name)
            told = True
        time.sleep(_POLL_SECONDS)


def _latest(storage: Storage, name: str) -> tuple[int, dict[str, Any]]:
    keys = storage.keys(f"leases/{name}/")
    if not keys:
        return 0, {"released": True}
    return int(keys[-1].rpartition("/")[2].removesuffix(".json")), orjson.loads(storage.read(keys[-1]))


def _key(name: str, token: int) -> str:
    return f"leases/{name}/{token:012}.json"


def _statement(seconds: float, released: bool = False) -> bytes:
    process = psutil.Process()
    return orjson.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": process.create_time(),
            "until": time.time() + seconds,
            "released": released,
        }
    )


def _is_over(holder: dict[str, Any]) -> bool:
    if holder["released"] or holder["until"] < time.time():
        return True
    if holder["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(holder["pid"])
        is_dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return is_dead or abs(process.create_time() - holder["started"]) > 1
    except psutil.NoSuchProcess:
        return True


def _who(holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(holder["started"]))
    return f"process {holder['pid']} on {holder['host']} (running since {since} UTC)"
