"""What each of several nodes of a job knows of the others: their number, its own, and where the first one is."""

from __future__ import annotations

import os
from dataclasses import dataclass

NODES = "MEDLLM_NODES"
MASTER = "MEDLLM_MASTER"
START = "MEDLLM_START"
# Kubernetes' own, in every pod of an Indexed Job.
INDEX = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that run one job together.

    :param count: how many; :param rank: which of them this is, from 0. :param master: the address of the first.
    :param start: another word each time that the job is started anew: what an earlier start left counts no more.
    """

    count: int = 1
    rank: int = 0
    master: str = "127.0.0.1"
    start: str = ""

    @classmethod
    def here(cls) -> Nodes:
        """As the environment says; a job on one node has none of the variables."""
        env = os.environ
        return cls(int(env.get(NODES, "1")), int(env.get(INDEX, "0")), env.get(MASTER, "127.0.0.1"), env.get(START, ""))
