"""Airflow's own user interface: a person signs in, fills in the form, and the run has what was filled in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from medllm_ops.compute.job import Job
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import end_job, marked_processes
from medllm_ops.files import read_json
from medllm_ops.parameters import Parameters
from medllm_ops.ui.standalone import JOB_ID, Login, airflow_port, airflow_standalone
from ui.ports import free_ports

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

RUN = "from-the-form"


@pytest.fixture
def medllm_home(tmp_path: Path) -> Path:
    return tmp_path / "medllm"


@pytest.fixture
def login(tmp_path: Path, medllm_home: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Login]:
    """A running Airflow. When it ends, nothing of its parts is left; the run's training goes on without it."""
    port = free_ports()
    monkeypatch.setenv("MEDLLM_HOME", str(medllm_home))
    with airflow_standalone(tmp_path / "airflow", port, repository / "dags", repository / "plugins") as login:
        yield login
    training = training_job(medllm_home)
    left, goes_on = list(marked_processes(f"{JOB_ID}-{port}")), list(marked_processes(training.id))
    LocalPlace().stop(training.directory)
    assert left == []
    assert goes_on
    assert list(marked_processes(training.id)) == []


def training_job(medllm_home: Path) -> Job:
    """The first training that the form's run starts."""
    return Job.read(medllm_home / "runs" / RUN / "stages" / "pretrain" / "job")


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
    button = page.get_by_role("button", name="Trigger").first
    deadline = time.monotonic() + 120
    while not button.is_visible():
        assert time.monotonic() < deadline, "Airflow did not read the DAG"
        page.goto(f"{login.url}/dags/medllm_train")
        page.wait_for_timeout(3_000)
    button.click()
    form = page.get_by_role("dialog").filter(has_text="Trigger Dag - Train a medical model")
    form.wait_for()
    return form


def test_the_form_starts_the_dag_with_changed_values(page: Page, login: Login, medllm_home: Path) -> None:
    form = open_form(page, login)
    form.get_by_role("button", name="Data", exact=True).click()
    for source in ("pubmed", "alpaca"):
        form.get_by_label("Select one or multiple values").locator("visible=true").first.click()
        form.get_by_role("option", name=source, exact=True).click()
    form.locator("[name=element_rows_per_source]").fill("30")
    form.locator("#element_run_name").fill(RUN)
    form.get_by_role("button", name="Model and training", exact=True).click()
    form.locator("#element_recipe").fill("tiny")
    # More than it will make before Airflow is ended.
    form.locator("[name=element_max_steps]").fill("5000")
    form.get_by_role("button", name="Identity", exact=True).click()
    form.locator("#element_name_en").fill("FormBuddy")
    form.get_by_role("button", name="Service", exact=True).click()
    form.locator("[id='switch:element_serve']").click()
    form.get_by_role("button", name="Trigger").last.click()

    run = medllm_home / "runs" / RUN
    wait_for(run / "plan.json")
    changed = {
        "sources": ["pubmed", "alpaca"],
        "rows_per_source": 30,
        "recipe": "tiny",
        "max_steps": 5000,
        "name_en": "FormBuddy",
        "serve": False,
    }
    # What was left alone, empty fields too, is as the form showed it.
    expected = Parameters.check(changed).model_dump(mode="json")
    assert read_json(run / "run.json")["parameters"] == expected
    assert list(read_json(run / "plan.json")["sources"]) == ["pubmed", "alpaca"]

    # Airflow is ended in the middle of a training: see the fixture.
    wait_for(run / "stages" / "pretrain" / "job" / "process.json")
    training = training_job(medllm_home)
    assert list(marked_processes(training.id))
    assert training.owner
    assert training.owner.task == "pretrain"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 240
    while not path.is_file():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.5)


def start_up(tmp_path: Path, port: int) -> subprocess.Popen[str]:
    """`make up`, as far as its first line."""
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "MEDLLM_AIRFLOW_PORT": str(port)}
    command = [sys.executable, "-m", "medllm_ops.ui.standalone"]
    # Where the tests run in a shell's background, Ctrl-C is ignored by all that they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    assert process.stdout is not None
    assert "starting Airflow" in process.stdout.readline()
    return process


def test_make_up_prints_the_login_and_ends_everything(tmp_path: Path) -> None:
    port = free_ports()
    process = start_up(tmp_path, port)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}  user admin  password ")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=180) == 0
        assert list(marked_processes(f"{JOB_ID}-{port}")) == []
    finally:
        process.kill()
        end_job(f"{JOB_ID}-{port}")


def test_make_up_that_is_ended_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    port = free_ports()
    process = start_up(tmp_path, port)
    try:
        while not list(marked_processes(f"{JOB_ID}-{port}")):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=180) == 0
        assert list(marked_processes(f"{JOB_ID}-{port}")) == []
    finally:
        process.kill()
        end_job(f"{JOB_ID}-{port}")


@pytest.mark.parametrize("port", ["abc", "0", "65534", "-1", "80.5", " "])
def test_a_port_that_is_none_is_refused_in_words(port: str, tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "MEDLLM_AIRFLOW_PORT": port}
    command = [sys.executable, "-m", "medllm_ops.ui.standalone"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    told = f"error: MEDLLM_AIRFLOW_PORT={port}: a number from 1 to 65533, the first of three ports\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


@pytest.mark.parametrize(("told", "port"), [("", 8080), ("9000", 9000), ("65533", 65533)])
def test_the_port_is_the_one_that_was_told(told: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_AIRFLOW_PORT", told)
    assert airflow_port() == port


@pytest.mark.slow
def test_behind_a_proxy_it_answers_below_the_path_that_people_use(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow")
    port = free_ports()
    with airflow_standalone(tmp_path / "airflow", port, repository / "dags", repository / "plugins") as login:
        assert login.url == f"http://127.0.0.1:{port}/airflow"
        body = {"username": login.user, "password": login.password}
        token = httpx.post(f"{login.url}/auth/token", json=body, timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{login.url}/api/v2/dags", headers=headers, timeout=60).status_code == 200
        page = httpx.get(f"{login.url}/", timeout=60, follow_redirects=True)
        assert 'href="https://example.org/airflow/"' in page.text or "/airflow/" in page.text
