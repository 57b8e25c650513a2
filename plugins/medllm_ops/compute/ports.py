"""Ports of this host: which is free, and who holds one that is not."""

from __future__ import annotations

import contextlib
import errno
import socket

import psutil

from medllm_ops.errors import MedllmError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check_port_free(host: str, port: int) -> None:
    """Refuse a port that is taken: what is to listen there would move to another, or be taken for it.

    :raises MedllmError: naming who holds it, as far as this user may know.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise MedllmError(f"port {port} on {host} cannot be used: there is none of that number") from error
        except OSError as error:
            why = port_holder(port) if error.errno == errno.EADDRINUSE else error.strerror
            raise MedllmError(f"port {port} on {host} cannot be used: {why}") from error


def port_holder(port: int) -> str:
    """Who listens on a port, in words."""
    for process in psutil.process_iter(["pid", "name"]):
        with contextlib.suppress(psutil.Error):
            if listens(process, port):
                return f"held by {process.info['name']} (pid {process.info['pid']})"
    return "held by a process of another user"


def listens(process: psutil.Process, port: int) -> bool:
    """Whether a process listens on a port."""
    connections = process.net_connections(kind="tcp")
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in connections)
