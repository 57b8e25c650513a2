"""Airflow on this machine, for one person: ``python -m medllm_ops.ui.standalone`` (``make up``).

Starts ``airflow standalone`` on loopback, waits until it answers, prints the address and the login, and ends every
process of it on Ctrl-C. The log goes to a file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from medllm_ops.compute.ports import LOOPBACK, check_port_free
from medllm_ops.compute.processes import MARK, end_job
from medllm_ops.compute.spool import Spool
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json

START_SECONDS = 240.0
PORTS = 3
MOST_PORT = 65535 - PORTS + 1
JOB_ID = "airflow-standalone"


@dataclass(frozen=True, slots=True)
class Login:
    """Where the user interface answers, and who may sign in."""

    url: str
    user: str
    password: str


@contextmanager
def airflow_standalone(airflow_home: Path, port: int, dags: Path, plugins: Path) -> Iterator[Login]:
    """Run Airflow until the block ends; nothing of it is left running afterwards.

    :param port: of its pages; the next two are those of its log servers.
    :raises MedllmError: if a port is taken, or it does not answer in time, with its last log lines.
    """
    # Another Airflow may be there, whose answer would be taken for that of this one.
    for offset in range(PORTS):
        try:
            check_port_free(LOOPBACK, port + offset)
        except MedllmError as error:
            raise MedllmError(f"{error}; MEDLLM_AIRFLOW_PORT names the first of three other ports") from error
    airflow_home.mkdir(parents=True, exist_ok=True)
    log = airflow_home / "standalone.log"
    # Behind a proxy, people come by another address; Airflow answers below its path.
    public = os.environ.get("AIRFLOW__API__BASE_URL", f"http://{LOOPBACK}:{port}")
    url = f"http://{LOOPBACK}:{port}{urlsplit(public).path.rstrip('/')}"
    job_id = f"{JOB_ID}-{port}"
    environment = {
        **os.environ,
        MARK: job_id,
        # The executor finds `airflow` and `medllm-ops` where this Python lives.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": public,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        # A task whose scheduler was killed is another's only after this check; Airflow's default is five minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "60",
        # The triggerer's and the workers' log servers.
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 1),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 2),
    }
    try:
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        _wait_until_healthy(url, process, log)
        yield _login(url, airflow_home)
    finally:
        end_job(job_id, spare=[os.getpid()])


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            health = httpx.get(f"{url}/api/v2/monitor/health", timeout=5).json()
            if all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler")):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass  # not up yet
        time.sleep(1)
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise MedllmError(f"Airflow did not answer on {url}; log {log} ends:\n{tail}")


def _login(url: str, airflow_home: Path) -> Login:
    users = read_json(airflow_home / "simple_auth_manager_passwords.json.generated")
    user, password = next(iter(users.items()))
    return Login(url, user, password)


def airflow_port() -> int:
    """The port of the pages, of which the next two must be ports as well: ``MEDLLM_AIRFLOW_PORT``, or 8080.

    :raises MedllmError: if the variable holds anything else.
    """
    text = os.environ.get("MEDLLM_AIRFLOW_PORT") or "8080"
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PORT:
        raise MedllmError(f"MEDLLM_AIRFLOW_PORT={text}: a number from 1 to {MOST_PORT}, the first of three ports")
    return int(text)


def main() -> None:
    """Run until Ctrl-C."""
    home = Path(os.environ.get("AIRFLOW_HOME", "var/airflow")).absolute()
    checkout = Path(__file__).resolve().parents[3]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        port = airflow_port()
        print(f"starting Airflow, about a minute; log: {home / 'standalone.log'}", flush=True)
        with airflow_standalone(home, port, checkout / "dags", checkout / "plugins") as login:
            print(f"{login.url}  user {login.user}  password {login.password}\nCtrl-C ends it", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("ended", flush=True)
        for entry in Spool().running():
            print(f"job {entry.id} goes on; `medllm-ops job stop {entry.id}` ends it", flush=True)
    except MedllmError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
