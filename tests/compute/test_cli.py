from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from medllm_ops.compute import cli
from medllm_ops.compute.gpus import Slot
from medllm_ops.compute.job import Job
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import ProcessIdentity, marked_processes
from medllm_ops.errors import MedllmError

MakeJob = Callable[..., Job]
Submit = Callable[[Job], ProcessIdentity]
WaitUntil = Callable[[Callable[[], object]], None]
Invoke = Callable[..., Result]
WAITS = "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists('end'): time.sleep(0.02)"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call the commands in this process; an error that the user would read is raised."""
    monkeypatch.setattr(cli, "console", Console(width=300, highlight=False))
    app = typer.Typer()
    app.add_typer(cli.job_app, name="job")
    app.command()(cli.gpu)
    app.command()(cli.trainer)

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, MedllmError):
            raise result.exception
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


def listed(invoke: Invoke) -> list[dict[str, Any]]:
    return list(json.loads(invoke("job", "list", "--json").stdout))


def test_nothing_was_run(invoke: Invoke) -> None:
    assert listed(invoke) == []
    assert "no job has been run here" in invoke("job", "list").stdout
    with pytest.raises(MedllmError, match="no job begins with 'x'; `medllm-ops job list` shows them"):
        invoke("job", "show", "x")


def test_a_job_is_seen_while_it_runs_and_afterwards(
    place: LocalPlace, make_job: MakeJob, submit: Submit, invoke: Invoke, wait_until: WaitUntil
) -> None:
    job = make_job(WAITS)
    supervisor = submit(job)
    wait_until(lambda: "begun" in job.log_tail())
    (row,) = listed(invoke)
    assert (row["id"], row["state"], row["pid"]) == (job.id, "running", supervisor.pid)
    assert job.id in invoke("job", "list").stdout
    assert json.loads(invoke("job", "show", job.id[:8]).stdout)["directory"] == str(job.directory)
    (job.directory / "end").touch()
    followed = invoke("job", "logs", job.id, "--follow").stdout
    assert followed.splitlines()[-1] == "begun"
    place.run(job)
    (row,) = listed(invoke)
    assert (row["state"], row["end"]) == ("succeeded", "it ended well")
    assert invoke("job", "logs", job.id).stdout == followed
    assert "has already ended" in invoke("job", "stop", job.id).stdout


def test_stop_ends_all_of_a_job(make_job: MakeJob, submit: Submit, invoke: Invoke, wait_until: WaitUntil) -> None:
    job = make_job(WAITS)
    submit(job)
    wait_until(lambda: "begun" in job.log_tail())
    invoke("job", "stop", job.id)
    assert list(marked_processes(job.id)) == []
    assert listed(invoke)[0]["state"] == "stopped"


def test_a_job_that_waits_is_seen_and_can_be_stopped(
    place: LocalPlace, make_job: MakeJob, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A trainer that runs elsewhere, and does not run now.
    monkeypatch.setenv("MEDLLM_TRAINER", "service")
    job = place.submit(make_job(WAITS))
    assert listed(invoke)[0]["state"] == "queued"
    invoke("job", "stop", job.id)
    assert listed(invoke)[0]["state"] == "stopped"
    with pytest.raises(MedllmError, match="it was stopped"):
        place.wait(job)


def test_a_service_takes_what_waits(
    place: LocalPlace, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setenv("MEDLLM_TRAINER", "service")
    job = place.submit(make_job("print('done')"))
    code = "from medllm_ops.compute.cli import trainer; trainer(once=False)"
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert place.wait(job).exit_code == 0
        assert service.poll() is None
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert "another trainer of" in other.stderr
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0


def test_a_job_survives_the_end_of_the_trainer_that_started_it(
    place: LocalPlace, make_job: MakeJob, submit: Submit, wait_until: WaitUntil
) -> None:
    job = make_job(WAITS)
    supervisor = submit(job)
    (trainer,) = place.spool.trainers()
    identity = ProcessIdentity.from_row(trainer)
    os.kill(identity.pid, signal.SIGKILL)
    wait_until(lambda: not identity.alive())
    assert supervisor.alive()
    (job.directory / "end").touch()
    assert place.run(job).exit_code == 0
    assert place.spool.running() == []


def test_the_slots_show_who_holds_them(
    make_job: MakeJob, submit: Submit, invoke: Invoke, directory: Path, place: LocalPlace
) -> None:
    assert "slot-0" in invoke("gpu").stdout
    assert "free" in invoke("gpu").stdout
    job = Job(make_job("").id, "key", make_job(WAITS).argv, directory, gpus=1)
    supervisor = submit(job)
    (slot,) = json.loads(invoke("gpu", "--json").stdout)
    assert (slot["job"], slot["pid"]) == (job.id, supervisor.pid)
    (directory / "end").touch()
    place.run(job)
    assert json.loads(invoke("gpu", "--json").stdout)[0]["job"] is None


def test_a_gpu_that_a_stranger_uses_is_not_called_free(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.gpus, "find_slots", lambda: [Slot("gpu-0", "GPU-a", "A100", 81920, 5000)])
    monkeypatch.setattr(cli.gpus, "holders", lambda: {"GPU-a": ["pid 7 (python, 4900 MiB)"]})
    told = invoke("gpu").stdout
    assert "no job of ours" in told
    assert "pid 7 (python, 4900 MiB)" in told
    assert "free" not in told
