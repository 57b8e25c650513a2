"""The endpoint's process: ``python -m medllm_ops.serving.deploy ARGUMENTS.json``.

It calls ms-swift's ``deploy`` with arguments from a file that only its owner can read: on a command line every user
of the machine would see the API key.
"""

from __future__ import annotations

import sys
from pathlib import Path

from medllm_ops.files import read_json

if __name__ == "__main__":
    from swift import deploy_main

    deploy_main(list(read_json(Path(sys.argv[1]))))
