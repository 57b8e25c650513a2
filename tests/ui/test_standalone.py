"""Airflow's own user interface: a person signs in, fills in the form, and the run has what was filled in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medllm_ops.compute.job import job_id
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.files import read_json
from medllm_ops.ui.standalone import JOB_ID, Login, airflow_standalone

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

RUN = "from-the-form"


def free_ports() -> int:
    """The first of three ports in a row that nobody listens on."""
    for port in range(18200, 19000, 10):
        sockets = [socket.socket() for _ in range(3)]
        try:
            for offset, probe in enumerate(sockets):
                probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        else:
            return port
        finally:
            for probe in sockets:
                probe.close()
    raise AssertionError("no three free ports in a row")


@pytest.fixture(scope="module")
def medllm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("medllm")


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory, medllm_home: Path, repository: Path) -> Iterator[Login]:
    port = free_ports()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLLM_HOME", str(medllm_home))
        airflow_home = tmp_path_factory.mktemp("airflow")
        with airflow_standalone(airflow_home, port, repository / "dags", repository / "plugins") as login:
            yield login
    # The training that the form started belongs to its run, and outlives Airflow.
    end_job(job_id(medllm_home / "runs" / RUN / "stages" / "pretrain" / "job"), grace_seconds=1)
    assert list(marked_processes(f"{JOB_ID}-{port}")) == []


@pytest.fixture
def page(browser: Browser, login: Login) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 1600})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def open_form(page: Page, login: Login) -> Locator:
    """Sign in, wait until the DAG was read, and open its trigger form."""
    page.goto(login.url)
    page.locator("input").first.fill(login.user)
    page.locator("input[type=password]").fill(login.password)
    page.locator("button[type=submit]").click()
    page.wait_for_url(lambda url: "login" not in url)
    deadline = time.monotonic() + 120
    while True:
        page.goto(f"{login.url}/dags/medllm_train")
        button = page.get_by_role("button", name="Trigger").first
        try:
            button.wait_for(timeout=5_000)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
    button.click()
    form = page.get_by_role("dialog").filter(has_text="Trigger Dag - Train a medical model")
    form.wait_for()
    return form


def test_the_form_starts_the_dag_with_changed_values(page: Page, login: Login, medllm_home: Path) -> None:
    form = open_form(page, login)
    form.get_by_role("button", name="Data", exact=True).click()
    form.locator("#element_run_name").fill(RUN)
    form.get_by_role("spinbutton").locator("visible=true").fill("30")
    form.get_by_role("button", name="Model and training", exact=True).click()
    form.locator("#element_recipe").fill("tiny")
    form.get_by_role("spinbutton").locator("visible=true").first.fill("1")
    form.get_by_role("button", name="Identity", exact=True).click()
    form.locator("#element_name_en").fill("FormBuddy")
    form.get_by_role("button", name="Trigger").last.click()
    run = medllm_home / "runs" / RUN
    deadline = time.monotonic() + 180
    while not (run / "plan.json").is_file():
        assert time.monotonic() < deadline, "the run was not planned"
        time.sleep(0.5)
    parameters = read_json(run / "run.json")["parameters"]
    changed = {name: parameters[name] for name in ("rows_per_source", "recipe", "max_steps", "name_en")}
    assert changed == {"rows_per_source": 30, "recipe": "tiny", "max_steps": 1, "name_en": "FormBuddy"}
    assert parameters["author_en"] == "Northstar Lab"
    assert "pubmed" in read_json(run / "plan.json")["sources"]


def test_make_up_prints_the_login_and_ends_everything(tmp_path: Path) -> None:
    port = free_ports()
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "MEDLLM_AIRFLOW_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "medllm_ops.ui.standalone"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "starting Airflow" in process.stdout.readline()
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}  user admin  password ")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert list(marked_processes(f"{JOB_ID}-{port}")) == []
    finally:
        process.kill()
        end_job(f"{JOB_ID}-{port}")
