"""A refresh of PubMed that ends itself by SIGKILL right after its n-th write; run as a process of its own.

``python killed_refresh.py BASE_URL CORPUS N``: N = 0 lets it end, and prints how many writes there were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from medllm_ops.corpus.storage import Folder
from medllm_ops.corpus.table import Table
from medllm_ops.refresh.refresh import refresh_source

WRITES = ((Table, "append"), (Table, "upsert"), (Table, "delete"), (Table, "reset"))
OBJECTS = ((Folder, "create"), (Folder, "write"), (Folder, "upload"))


def main(base_url: str, corpus: str, fatal: int) -> None:
    writes = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal writes
            result = function(*arguments)
            writes += 1
            if writes == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in (*WRITES, *OBJECTS):
        setattr(owner, name, counted(getattr(owner, name)))
    refresh_source("pubmed", {"base_url": base_url, "first_wait": 0.01}, corpus=corpus)
    print(writes)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
