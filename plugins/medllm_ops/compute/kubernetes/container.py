"""What runs in the container of a job: ``python -m medllm_ops.compute.kubernetes.container DIRECTORY``.

The supervisor of the job, and beside it a thread that prints what the job writes into its log, for ``kubectl logs``
and for whoever collects the logs of a cluster.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

from medllm_ops.compute.job import Job
from medllm_ops.compute.nodes import Nodes
from medllm_ops.compute.supervisor import supervise

PRINT_SECONDS = 0.5


def main(directory: Path) -> int:
    """Run the job of a directory, or this node's part of it, and return its exit code.

    The first node's log and result are the job's; another node has a folder of its own for them.
    """
    job, nodes = Job.read(directory), Nodes.here()
    if job.result():
        # Stopped before it had started.
        return 0
    if nodes.rank:
        job = replace(job, id=f"{job.id}-node-{nodes.rank}", directory=directory / "nodes" / str(nodes.rank))
        job.directory.mkdir(parents=True, exist_ok=True)
        job.write()
        job.result_file.unlink(missing_ok=True)
    ended = threading.Event()
    printer = threading.Thread(target=_print_log, args=(job.log, ended))
    printer.start()
    try:
        # The signal handler of the supervisor needs this thread, the main one.
        return supervise(job.directory, movable=True)
    finally:
        ended.set()
        printer.join()


def _print_log(log: Path, ended: threading.Event) -> None:
    """Print what is added to a log from now on, until the job has ended."""
    position = log.stat().st_size if log.is_file() else 0
    last = False
    while not last:
        last = ended.wait(PRINT_SECONDS)
        if log.is_file():
            with log.open("rb") as file:
                file.seek(position)
                while block := file.read(1 << 16):
                    sys.stdout.buffer.write(block)
                sys.stdout.flush()
                position = file.tell()


if __name__ == "__main__":
    sys.exit(min(255, abs(main(Path(sys.argv[1])))))
