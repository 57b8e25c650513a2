"""The endpoint's process: ``python -m medllm_ops.serving.deploy ARGUMENTS.json``.

It calls ms-swift's ``deploy`` with arguments from a file that only its owner can read: on a command line every user
of the machine would see the API key. ms-swift writes all its arguments into its log, and logs are shown to others:
the key is left out there.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from medllm_ops.files import read_json
from medllm_ops.swift.launch import quick_imports


class WithoutSecret(logging.Filter):
    """Leaves a secret out of every message."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the secret, and let the message pass."""
        record.msg, record.args = record.getMessage().replace(self.secret, "***"), ()
        return True


def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    with quick_imports():
        from swift import deploy_main

    key = arguments[arguments.index("--api_key") + 1]
    logging.getLogger("swift").addFilter(WithoutSecret(key))
    deploy_main(arguments)


if __name__ == "__main__":
    main(read_json(Path(sys.argv[1])))
