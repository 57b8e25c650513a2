"""What is being served on this machine: endpoints and chat pages, found and ended by name."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock

from medllm_ops.compute.job import Job, JobError, explain_exit_code, job_id
from medllm_ops.compute.ports import LOOPBACK, check_port_free, listens
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.compute.supervisor import start_supervisor
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.home import home

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
# No endpoint has it in its name, so that no endpoint is taken for the chat page of another one.
_CHAT_ENDING = "@chat"


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

    @property
    def file(self) -> Path:
        """Where its state is kept, secret included."""
        return self.directory / "service.json"

    def write(self) -> None:
        """Keep the service's state, secret included, for its owner's eyes only."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        write_json(self.file, asdict(self))
        self.file.chmod(0o600)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return Job(self.job_id, "", (), self.directory / "job").log_tail(lines)

    def running(self) -> bool:
        """Whether any of its processes lives."""
        return next(marked_processes(self.job_id), None) is not None

    def listening(self) -> bool:
        """Whether it is one of its own processes that holds its port."""
        for process in marked_processes(self.job_id):
            with contextlib.suppress(psutil.Error):
                if listens(process, self.port):
                    return True
        return False


def service_directory(name: str) -> Path:
    """Where a service keeps its state.

    :raises MedllmError: if the name is no folder name.
    """
    if not _NAME.fullmatch(name.removesuffix(_CHAT_ENDING)):
        raise MedllmError(f"service name {name!r}: letters, digits and ._+- only, at most 120")
    return home() / "serving" / name


def find_service(name: str) -> Service | None:
    """The service of this name, running or not.

    :raises MedllmError: if its file is not one that this version wrote.
    """
    path = service_directory(name) / "service.json"
    try:
        return Service(**read_json(path))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise MedllmError(f"{path} is not the state of a service ({error}); remove its folder") from error


def known_services() -> Iterator[Service]:
    """The services that have a state, running or not; one whose file cannot be read is left out, with a warning."""
    for name in sorted(path.parent.name for path in (home() / "serving").glob("*/service.json")):
        try:
            service = find_service(name)
        except MedllmError as error:
            _log.warning("%s", error)
            continue
        if service:
            yield service


def list_services() -> list[Service]:
    """The services that run; what is left of those that ended by themselves is cleared away, with a warning."""
    return [service for service in known_services() if service.running() or not _clear_ended(service)]


def _clear_ended(service: Service) -> bool:
    """Forget a service that ended by itself; return False if it was started anew meanwhile."""
    with _lock():
        if find_service(service.name) != service:
            return True
        if service.running():
            return False
        job = Job(service.job_id, "", (), service.directory / "job")
        result = job.result()
        how = explain_exit_code(result.exit_code) if result else "it was killed together with its supervisor"
        last = job.log_tail(1) or "(empty log)"
        shutil.rmtree(service.directory, ignore_errors=True)
    _log.warning("%s %s had ended by itself: %s; its log ended: %s", service.kind, service.name, how, last)
    return True


def stop_service(name: str) -> list[Service]:
    """End every process of a service and forget it; an endpoint takes its chat page along.

    :return: what was ended, the chat page first; empty if nothing has this name.
    """
    names = (name,) if name.endswith(_CHAT_ENDING) else (chat_name(name), name)
    with _lock():
        services = [service for service in map(find_service, names) if service]
        for service in services:
            _end(service)
    return services


def chat_name(endpoint_name: str) -> str:
    """The name of the chat page in front of an endpoint."""
    return f"{endpoint_name}{_CHAT_ENDING}"


def _end(service: Service) -> None:
    end_job(service.job_id)
    shutil.rmtree(service.directory, ignore_errors=True)


def start_service(
    service: Service, argv: tuple[str, ...], environment: Mapping[str, str], files: Mapping[str, Any] | None = None
) -> Job:
    """Start a service's process under a supervisor in a session of its own.

    :param files: JSON files to put into the service's folder first, for its owner's eyes only.
    :raises MedllmError: if a service of this name runs, the port is taken, or an endpoint has a chat page's name.
    """
    if service.kind == "endpoint" and service.name.endswith(_CHAT_ENDING):
        raise MedllmError(f"service name {service.name!r}: the ending {_CHAT_ENDING} is for chat pages; leave it out")
    with _lock():
        earlier = find_service(service.name)
        if earlier and earlier.running():
            raise MedllmError(
                f"{earlier.kind} {service.name} already runs at {earlier.url}; stop it, or take another name"
            )
        check_port_free(service.host, service.port)
        shutil.rmtree(service.directory, ignore_errors=True)
        service.write()
        for name, value in (files or {}).items():
            write_json(service.directory / name, value)
            (service.directory / name).chmod(0o600)
        job = Job(service.job_id, secrets.token_hex(8), argv, service.directory / "job", environment)
        try:
            job.directory.mkdir(parents=True)
            job.write()
            # Not through the trainer: who starts a service waits for it, and it holds no lease.
            start_supervisor(job)
        except BaseException:
            _end(service)
            raise
    return job


def _lock() -> FileLock:
    """Held while a service's state and its processes may disagree: it is being started, or ended."""
    directory = home() / "serving"
    directory.mkdir(parents=True, exist_ok=True)
    return FileLock(directory / ".lock")


def check_alive(job: Job) -> None:
    """Raise if the service's process has ended.

    :raises JobError: with the last lines of its log.
    """
    if job.result() is not None:
        raise JobError(f"job {job.id} ended at once; log {job.log} ends:\n{job.log_tail()}")
