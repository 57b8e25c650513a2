"""``medllm-ops job``, ``gpu`` and ``trainer``: the jobs of a run volume, without Airflow."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from medllm_ops.compute import gpus
from medllm_ops.compute.job import Failure, Job, JobResult, explain_exit_code
from medllm_ops.compute.lease import Leases
from medllm_ops.compute.places import place_for
from medllm_ops.compute.processes import host_name
from medllm_ops.compute.spool import Entry, Spool
from medllm_ops.compute.trainer import run_trainer, waiting_file
from medllm_ops.errors import MedllmError

job_app = typer.Typer(no_args_is_help=True, help="Jobs: what waits, runs and has ended, with its log and its end.")
console = Console(highlight=False, markup=False)
FOLLOW_SECONDS = 0.5

Id = Annotated[str, typer.Argument(help="The job's id, or how it begins.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def describe(entry: Entry) -> dict[str, Any]:
    """All that is known about a job, as JSON."""
    job = Job.find(entry.directory)
    if job is not None and job.id != entry.id:
        job = None  # another job has its folder now
    result = job.result() if job else None
    waiting = waiting_file(entry.directory)
    state: str = entry.state
    if state == "ended":
        ends = {True: "stopped", False: "succeeded" if result and result.exit_code == 0 else "failed"}
        state = ends[result.stopped] if result else "unknown"
    elif state == "running" and entry.host == host_name() and entry.supervisor and not entry.alive():
        state = "lost"
    failure = job.failure() if job and result and result.exit_code else None
    return {
        "id": entry.id,
        "state": state,
        "host": entry.host,
        "gpus": entry.gpus,
        "submitted": _time(entry.submitted),
        "since": _time(entry.since),
        "task": str(job.owner) if job and job.owner else None,
        "directory": str(entry.directory),
        "log": str(entry.directory / "job.log"),
        "pid": entry.supervisor.pid if entry.supervisor else None,
        "waits": waiting.read_text(encoding="utf-8") if entry.state != "ended" and waiting.is_file() else None,
        "seconds": result.seconds if result else None,
        "end": _end(result, failure) if result else None,
    }


def _end(result: JobResult, failure: Failure | None) -> str:
    if result.stopped:
        return "it was stopped"
    if result.exit_code == 0:
        return "it ended well"
    return failure.sentence if failure else explain_exit_code(result.exit_code)


@job_app.command("list")
def list_(json: AsJson = False) -> None:
    """List the jobs that are known, the newest last."""
    rows = [describe(entry) for entry in Spool().entries()]
    if json:
        _print_json(rows)
        return
    if not rows:
        console.print("no job has been run here")
        return
    table = Table()
    for heading in ("id", "state", "since", "host", "task or folder"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row["id"], row["state"], row["since"], row["host"], row["task"] or row["directory"])
    console.print(table)


@job_app.command()
def show(job: Id) -> None:
    """Show all that is known about a job, as JSON."""
    _print_json(describe(Spool().resolve(job)))


@job_app.command()
def logs(
    job: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
) -> None:
    """Print the log of a job."""
    spool = Spool()
    entry = spool.resolve(job)
    log = entry.directory / "job.log"
    if not log.is_file() and not (follow and entry.state != "ended"):
        raise MedllmError(f"job {entry.id} has no log: {log} is not there")
    position = 0
    while True:
        now = spool.find(entry.id)
        position = _print_from(log, position)
        if not follow or now is None or now.state == "ended":
            return
        time.sleep(FOLLOW_SECONDS)


@job_app.command()
def stop(job: Id) -> None:
    """End a job with every process of it; a task that waits for it fails, and does not start it again."""
    entry = Spool().resolve(job)
    if entry.state == "ended":
        console.print(f"job {entry.id} has already ended")
        return
    found = Job.find(entry.directory)
    if found is None or found.id != entry.id:
        raise MedllmError(f"job {entry.id}: its folder {entry.directory} was removed or belongs to another job")
    place_for(found.where).stop(entry.directory)
    console.print(f"stopped job {entry.id}", soft_wrap=True)


def gpu(json: AsJson = False) -> None:
    """Show the GPUs of this host, or its slots: who holds what, since when."""
    slots, held, busy = gpus.find_slots(), Leases(Spool().folder / "leases").held(), gpus.holders()
    rows: list[dict[str, Any]] = [
        {
            "slot": slot.name,
            "model": slot.model or None,
            "memory_mib": slot.memory or None,
            "used_mib": slot.used if slot.memory else None,
            "job": held[slot.name].job if slot.name in held else None,
            "pid": held[slot.name].holder.pid if slot.name in held else None,
            "since": _time(held[slot.name].since) if slot.name in held else None,
            "processes": busy.get(slot.device or "", []),
        }
        for slot in slots
    ]
    if json:
        _print_json(rows)
        return
    table = Table()
    for heading in ("slot", "model", "memory", "held by", "since", "processes"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        memory = f"{row['used_mib']} of {row['memory_mib']} MiB" if row["memory_mib"] else ""
        nobody = "no job of ours" if row["processes"] else "free"
        holder = f"{row['job']} (pid {row['pid']})" if row["job"] else nobody
        processes = ", ".join(row["processes"])
        table.add_row(row["slot"], row["model"] or "", memory, holder, row["since"] or "", processes)
    console.print(table)


def trainer(
    once: Annotated[bool, typer.Option(help="End when nothing is left to do, as one that a task starts.")] = False,
) -> None:
    """Be the trainer of this host: take jobs from the queue of the run volume, until it is ended.

    Jobs that run go on under their supervisors when it ends, and the next trainer finds them.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    spool = Spool()
    console.print(f"trainer on {host_name()}, jobs from {spool.folder}", soft_wrap=True)
    if not run_trainer(spool, stay=not once):
        raise MedllmError(f"another trainer of {spool.folder} lives on {host_name()}")


def _print_from(log: Path, position: int) -> int:
    """Print what was added to a log; return where it ends now."""
    if not log.is_file():
        return position
    with log.open("rb") as file:
        file.seek(position)
        while block := file.read(1 << 16):
            sys.stdout.buffer.write(block)
        sys.stdout.flush()
        return file.tell()


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
