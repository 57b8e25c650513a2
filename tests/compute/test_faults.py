"""Faults around a job that no other test here has."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.processes import ProcessIdentity

MakeJob = Callable[..., Job]
Submit = Callable[[Job], ProcessIdentity]
WaitUntil = Callable[[Callable[[], object]], None]
WAITS = """
import os, time
open("begun", "w").close()
while not os.path.exists("end"):
    time.sleep(0.02)
"""


def test_two_jobs_on_one_slot_run_one_after_the_other(
    tmp_path: Path, make_job: MakeJob, submit: Submit, place: LocalPlace, wait_until: WaitUntil
) -> None:
    first = replace(make_job(WAITS), gpus=1)
    submit(first)
    wait_until((first.directory / "begun").is_file)
    other = tmp_path / "other" / "job"
    second = place.submit(Job("the-second", "key", (sys.executable, "-c", "print('ran')"), other, gpus=1))
    wait_until((other / "waiting.txt").is_file)
    assert f"slot-0 is held by {first.id}" in (other / "waiting.txt").read_text()
    assert second.supervisor() is None
    (first.directory / "end").touch()
    assert place.wait(second).exit_code == 0
    assert place.run(first).exit_code == 0
    assert Leases(place.spool.folder / "leases").held() == {}


def test_a_job_whose_folder_is_removed_ends_in_order(
    tmp_path: Path, make_job: MakeJob, submit: Submit, place: LocalPlace, wait_until: WaitUntil
) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    code = "import os, sys, time\nopen(os.environ['BEGUN'], 'w').close()\n"
    code += "while not os.path.exists(os.environ['END']): time.sleep(0.02)"
    job = make_job(code, BEGUN=str(begun), END=str(end))
    supervisor = submit(job)
    wait_until(begun.is_file)
    shutil.rmtree(job.directory)
    end.touch()
    assert place.wait(job).exit_code == 0
    wait_until(lambda: not supervisor.alive())
    assert place.spool.running() == []


def test_a_job_whose_folder_was_removed_is_ended_before_another_takes_the_folder(
    make_job: MakeJob, submit: Submit, place: LocalPlace, wait_until: WaitUntil
) -> None:
    # As a task has it that was cleared meanwhile: the same folder, and another id.
    first = replace(make_job(WAITS), id="of-an-earlier-generation")
    supervisor = submit(first)
    wait_until((first.directory / "begun").is_file)
    shutil.rmtree(first.directory)
    assert place.run(make_job("print('the second')")).exit_code == 0
    assert not supervisor.alive()
    assert place.spool.running() == []


def test_a_job_that_says_why_it_failed_is_believed(place: LocalPlace, make_job: MakeJob) -> None:
    code = """
import json
open("failure.json", "w").write(json.dumps({"cause": "disk", "sentence": "the disk is full", "retry": False}))
raise SystemExit(1)
"""
    with pytest.raises(JobError, match="failed: the disk is full; log") as caught:
        place.run(make_job(code))
    assert (caught.value.cause, caught.value.retry) == ("disk", False)
    # The next attempt is not blamed for it.
    with pytest.raises(JobError, match="exit code 3"):
        place.run(make_job("raise SystemExit(3)", key="other"))
