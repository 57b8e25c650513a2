"""A DAG whose one task is a job that waits until a file lets it end; for the tests of who ends whose job."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.operators.base import JobOperator

# A child in a session of its own, as torch starts its ranks.
CODE = """
import os, subprocess, sys, time
rank = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
with open("runs.txt", "a") as file:
    file.write(f"{os.getpid()} {rank.pid}\\n")
while not os.path.exists("end"):
    time.sleep(0.1)
"""


@dataclass
class Sleep:
    job: Job | None

    def finish(self, place: Place) -> Any:
        assert self.job
        return {"seconds": place.wait(self.job).seconds}


class SleepOperator(JobOperator):
    def begin(self, place: Place) -> Sleep:
        directory = self.job_directory()
        job = Job(job_id(directory), "key", (sys.executable, "-c", CODE), directory, gpus=1)
        return Sleep(place.submit(job))


with DAG("sleeping", schedule=None, is_paused_upon_creation=False):
    SleepOperator(
        task_id="sleep",
        output_dir=str(Path(os.environ["MEDLLM_HOME"]) / "jobs") + "/{{ run_id }}",
        where=os.environ["TEST_WHERE"],
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
