"""What is being served on this machine: endpoints and chat pages, found and ended by name."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from medllm_ops.compute.job import Job, JobError, job_id
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.home import home

LOOPBACK = "127.0.0.1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")


@dataclass(frozen=True, slots=True)
class Service:
    """One thing that listens: an OpenAI endpoint of a model, or a chat page in front of one.

    ``secret`` is the API key of an endpoint or the password of a chat page; the file that keeps it is readable by
    its owner alone.
    """

    name: str
    kind: Literal["endpoint", "chat"]
    host: str
    port: int
    model_name: str
    model: str
    secret: str

    @property
    def url(self) -> str:
        """Where it answers, as seen from this machine."""
        host = LOOPBACK if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}" + ("/v1" if self.kind == "endpoint" else "")

    @property
    def directory(self) -> Path:
        """Its state: ``service.json`` and its job."""
        return service_directory(self.name)

    @property
    def job_id(self) -> str:
        """The mark of all its processes."""
        return job_id(self.directory / "job")

    def write(self) -> None:
        """Keep the service's state, secret included, for its owner's eyes only."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        write_json(self.directory / "service.json", asdict(self))
        (self.directory / "service.json").chmod(0o600)

    def running(self) -> bool:
        """Whether any of its processes lives."""
        return next(marked_processes(self.job_id), None) is not None


def service_directory(name: str) -> Path:
    """Where a service keeps its state.

    :raises MedllmError: if the name is no folder name.
    """
    if not _NAME.fullmatch(name):
        raise MedllmError(f"service name {name!r}: letters, digits and ._+- only, at most 120")
    return home() / "serving" / name


def find_service(name: str) -> Service | None:
    """The service of this name, running or not."""
    path = service_directory(name) / "service.json"
    return Service(**read_json(path)) if path.is_file() else None


def list_services() -> list[Service]:
    """The services that run; what is left of those that ended by themselves is cleared away."""
    found = []
    for path in sorted((home() / "serving").glob("*/service.json")):
        service = Service(**read_json(path))
        if service.running():
            found.append(service)
        else:
            shutil.rmtree(path.parent)
    return found


def stop_service(name: str) -> bool:
    """End every process of a service and forget it; return whether there was one."""
    service = find_service(name)
    if service is None:
        return False
    end_job(service.job_id)
    shutil.rmtree(service.directory, ignore_errors=True)
    return True


def start_service(
    service: Service, argv: tuple[str, ...], environment: Mapping[str, str], files: Mapping[str, Any] | None = None
) -> Job:
    """Start a service's process under a supervisor in a session of its own.

    :param files: JSON files to put into the service's folder first, for its owner's eyes only.
    :raises MedllmError: if a service of this name runs, or the port is taken.
    """
    earlier = find_service(service.name)
    if earlier and earlier.running():
        raise MedllmError(f"{earlier.kind} {service.name} already runs at {earlier.url}; stop it, or take another name")
    check_port_free(service.host, service.port)
    shutil.rmtree(service.directory, ignore_errors=True)
    service.write()
    for name, value in (files or {}).items():
        write_json(service.directory / name, value)
    job = Job(service.job_id, secrets.token_hex(8), argv, service.directory / "job", environment)
    LocalPlace().submit(job)
    return job


def check_alive(job: Job) -> None:
    """Raise if the service's process has ended.

    :raises JobError: with the last lines of its log.
    """
    if job.result() is not None:
        raise JobError(f"job {job.id} ended at once; log {job.log} ends:\n{job.log_tail()}")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check_port_free(host: str, port: int) -> None:
    """Refuse a port that is taken: ``swift deploy`` would silently move to the next one.

    :raises MedllmError: naming who holds it, as far as this user may know.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MedllmError(
                f"port {port} on {host} cannot be used ({error.strerror}): {port_holder(port)}"
            ) from error


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
