"""The programs that the containers start beside Airflow's own."""

from __future__ import annotations

import base64
import json
import os
import runpy
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

HEALTH = {"scheduler": {"status": "healthy"}, "triggerer": {"status": None}, "metadatabase": {"status": "healthy"}}


@pytest.fixture
def page() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(HEALTH).encode() if self.path == "/health" else b"not JSON"
            self.send_response(503 if self.path == "/ill" else 200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as the base class wants it
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "parts", "wrong"),
    [
        ("/health", [], None),
        ("/health", ["scheduler", "metadatabase"], None),
        ("/health", ["scheduler", "triggerer"], "not healthy: triggerer"),
        ("/health", ["dag_processor"], "dag_processor"),
        ("/other", [], None),
        ("/other", ["scheduler"], "JSONDecodeError"),
        ("/ill", [], "503"),
    ],
)
def test_health_by_airflows_word(page: str, repository: Path, path: str, parts: list[str], wrong: str | None) -> None:
    ask = runpy.run_path(str(repository / "docker/healthy.py"))["ask"]
    said = ask(f"{page}{path}", parts)
    assert said is None if wrong is None else wrong in said


def test_health_where_nobody_answers(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "docker/healthy.py"), "http://127.0.0.1:1/health"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


def login(repository: Path, folder: Path, users: str, password: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "MEDLLM_AIRFLOW_PASSWORD": password,
    }
    started = [sys.executable, "-c", "import os; print(os.environ.get('MEDLLM_AIRFLOW_PASSWORD'))"]
    command = [sys.executable, str(repository / "docker/login.py"), *started]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_login_goes_into_a_file_of_its_owner_and_not_to_the_server(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    file.write_text('{"mallory": "was here"}')
    done = login(repository, tmp_path, "anna:ADMIN", "correct horse battery")
    assert done.stdout == "None\n"
    assert json.loads(file.read_text()) == {"anna": "correct horse battery"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("users", "password"), [("anna:ADMIN", "short"), ("a:ADMIN,b:ADMIN", "x" * 20), ("", "x" * 20)]
)
def test_a_bad_login_starts_nothing(repository: Path, tmp_path: Path, users: str, password: str) -> None:
    done = login(repository, tmp_path, users, password)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert not done.stdout
    assert not (tmp_path / "passwords.json").exists()


def test_new_secrets_differ_are_long_and_are_never_written_over(repository: Path, tmp_path: Path) -> None:
    module = runpy.run_path(str(repository / "docker/make_env.py"))
    example = (repository / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env.example").write_text(example)
    assert module["main"](tmp_path) is None
    file = tmp_path / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines() if line and not line.startswith("#"))
    made = [lines[name] for name in module["SECRETS"]]
    assert len(set(made)) == len(made)
    assert all(len(secret) >= 43 for secret in made)
    assert len(base64.urlsafe_b64decode(lines["AIRFLOW_FERNET_KEY"])) == 32
    # Everything else is as in the example.
    assert [line.partition("=")[0] for line in file.read_text().splitlines()] == [
        line.partition("=")[0] for line in example.splitlines()
    ]
    before = file.read_text()
    assert "is there already" in module["main"](tmp_path)
    assert file.read_text() == before


def test_an_example_that_holds_a_secret_is_refused(repository: Path) -> None:
    filled = runpy.run_path(str(repository / "docker/make_env.py"))["filled"]
    example = (repository / ".env.example").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD"):
        filled(example.replace("POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=airflow"))


def test_a_worker_whose_broker_is_away_is_ill_and_the_password_is_not_shown(repository: Path) -> None:
    environment = {**os.environ, "AIRFLOW__CELERY__BROKER_URL": "redis://:a-password-of-a-test@127.0.0.1:1/0"}
    command = [sys.executable, str(repository / "docker/healthy.py"), "worker"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=15)
    assert done.returncode == 1
    assert "the broker does not answer" in done.stderr
    assert "a-password-of-a-test" not in done.stdout + done.stderr
