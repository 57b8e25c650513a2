"""The services of docker-compose.yaml as processes of this machine: their own commands, variables and health checks.

Host names, ports and folders are replaced; what is in a container's image (``ENV``) is set here. Postgres and Redis are
the machine's own programs. ``tini`` starts each service, as the engine's ``init: true`` does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::[-?])([^}]*)\}")
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-password-of-a-test",
    "REDIS_PASSWORD": "redis-password-of-a-test",
    "AIRFLOW_PASSWORD": "airflow-password-of-a-test",
    "AIRFLOW_FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "AIRFLOW_JWT_SECRET": "jwt-secret-of-a-test-that-is-long-enough-for-hs512-signatures-0123456789",
    "AIRFLOW_SECRET_KEY": "secret-key-of-a-test",
}
HEALTHY_SECONDS = 180.0


def postgres_programs() -> Path | None:
    """The folder of Debian's newest Postgres, whose server is not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def missing_program() -> str | None:
    """What this machine lacks for these tests, or None."""
    for program in ("redis-server", "tini"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if postgres_programs() else "postgresql is not installed"


class Services:
    """Start, stop and kill them by their names in the file.

    :param ports: the first of six free ones in a row.
    :param extra: variables that replace those of the file.
    """

    def __init__(self, repository: Path, folder: Path, port: int, dags: Path, extra: dict[str, str]) -> None:
        self.repository, self.folder = repository, folder
        self.home = folder / "medllm"
        self.ports = dict(
            zip(("api", "postgres", "redis", "logs", "health", "triggers"), range(port, port + 6), strict=True)
        )
        self._file = yaml.safe_load((repository / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._image = {
            "MEDLLM_HOME": str(self.home),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(repository / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports["api"]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self.ports["health"]),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self.ports["logs"]),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self.ports["triggers"]),
            "PYTHONPATH": str(repository / "plugins"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
        }
        self._extra = extra

    def _here(self, value: Any) -> str:
        """A value of the file with its variables resolved, and with the places of this machine."""
        text = VARIABLE.sub(lambda match: SECRETS.get(match[1], match[2]), str(value))
        for there, here in (
            ("@postgres:5432", f"@127.0.0.1:{self.ports['postgres']}"),
            ("@redis:6379", f"@127.0.0.1:{self.ports['redis']}"),
            ("api-server:8080", f"127.0.0.1:{self.ports['api']}"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.ports['api']}"),
            ("127.0.0.1:8974", f"127.0.0.1:{self.ports['health']}"),
            ("/opt/medllm/", f"{self.repository}/"),
            ("/srv/medllm", str(self.home)),
            ("/run/airflow", str(self.folder)),
            ("$$", "$"),
        ):
            text = text.replace(there, here)
        return text

    def _command(self, words: list[str]) -> list[str]:
        programs = {
            "airflow": [sys.executable, "-m", "airflow"],
            "medllm-ops": [sys.executable, "-c", "from medllm_ops.cli import main; main()"],
            "python3.11": [sys.executable],
        }
        return [part for word in words for part in programs.get(word, [self._here(word)])]

    def _environment(self, name: str) -> dict[str, str]:
        named = {key: self._here(value) for key, value in self._file[name]["environment"].items()}
        return {**self._image, **named, **self._extra}

    def start(self, name: str) -> None:
        """Start one, without waiting for its health."""
        command = self._command(self._file[name]["command"])
        if name == "redis":
            # The image listens on its own network; a test only on loopback.
            command[-1] = command[-1].replace(
                "redis-server -", f"redis-server - --bind 127.0.0.1 --port {self.ports['redis']} --dir {self.folder}"
            )
        # -s: outside a container tini is not the first process, and has to ask for the orphans of those below it.
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["tini", "-s", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(name),
                start_new_session=True,
            )

    def healthy(self, name: str) -> bool:
        """What the file's health check says."""
        check = self._command(self._file[name]["healthcheck"]["test"][1:])
        if name == "redis":
            check[1:1] = ["-p", str(self.ports["redis"])]
        return subprocess.run(check, env=self._environment(name), capture_output=True).returncode == 0

    def start_healthy(self, *names: str) -> None:
        """Start some, and wait until all are healthy."""
        for name in names:
            self.start(name)
        deadline = time.monotonic() + HEALTHY_SECONDS
        waiting = list(names)
        while waiting := [name for name in waiting if not self.healthy(name)]:
            for name in waiting:
                assert self._running[name].poll() is None, f"{name} ended: {self.log(name).read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not healthy: {waiting}"
            time.sleep(1)

    def stop(self, name: str, seconds: float) -> float:
        """As the engine does it: SIGTERM to its first process, SIGKILL to all after its time; how long it took."""
        begun = time.monotonic()
        self._running[name].send_signal(signal.SIGTERM)
        try:
            self._running[name].wait(seconds)
        finally:
            self.kill(name)
        return time.monotonic() - begun

    def kill(self, name: str) -> None:
        """End a service as its container's end would: every process of it at once."""
        process = self._running.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            every = [*first.children(recursive=True), first]
            for one in every:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
            for one in every:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait()

    def log(self, name: str) -> Path:
        """What one writes, from all of its starts."""
        return self.folder / f"{name}.log"

    def migrate(self) -> None:
        """The service that runs once."""
        done = subprocess.run(
            self._command(self._file["migrate"]["command"]),
            env=self._environment("migrate"),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def end(self) -> None:
        """Kill all that runs, the newest first."""
        for name in reversed(list(self._running)):
            self.kill(name)


@contextlib.contextmanager
def postgres(folder: Path, port: int) -> Iterator[None]:
    """A database as the file's service makes it, in a folder that the server's user may enter."""
    programs = postgres_programs()
    assert programs
    # It refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    data, password = folder / "data", folder / "password"
    folder.mkdir()
    password.write_text(SECRETS["POSTGRES_PASSWORD"])
    for path in (folder, password):
        shutil.chown(path, user)
    subprocess.run(
        [programs / "initdb", "--pgdata", data, "--username=airflow", "--pwfile", password, "--auth=scram-sha-256"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
    with (folder.parent / "postgres.log").open("ab") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *listen], stdout=log, stderr=log, user=user, cwd=folder
        )
    connect = {**os.environ, "PGPASSWORD": SECRETS["POSTGRES_PASSWORD"]}
    try:
        ready = [programs / "pg_isready", "--host=127.0.0.1", f"--port={port}", "--quiet"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready).returncode:
            assert server.poll() is None, "postgres ended"
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(0.2)
        create = [programs / "createdb", "--host=127.0.0.1", f"--port={port}", "--username=airflow", "airflow"]
        subprocess.run(create, check=True, env=connect)
        yield
    finally:
        # SIGINT: it ends at once, and takes its connections with it.
        server.send_signal(signal.SIGINT)
        server.wait(60)
