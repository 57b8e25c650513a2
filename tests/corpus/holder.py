"""Hold a lease in a process of its own: ``python holder.py FOLDER NAME``; prints its token, ends when told to."""

from __future__ import annotations

import sys

from medllm_ops.corpus.lease import LeaseError, hold
from medllm_ops.corpus.storage import open_storage

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        with hold(open_storage(sys.argv[1]), sys.argv[2]) as lease:
            print(lease.token, flush=True)
            sys.stdin.readline()
    except LeaseError as error:
        print(error, flush=True)
