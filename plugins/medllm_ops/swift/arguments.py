"""Which arguments the installed ms-swift knows: read from its own classes, in a process of its own, once a version.

``python -m medllm_ops.swift.arguments RESULT`` writes ``{command: [names]}``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.home import home
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.parameters_2024 import SUCCESSORS

log = logging.getLogger(__name__)


def check_names(command: str, names: Iterable[str]) -> None:
    """Refuse argument names that ms-swift would refuse, but only once the model is loaded.

    Where ms-swift is not installed, as in the Airflow image, nothing is checked; the log says so.

    :param command: ``pt``, ``sft``, ``rlhf``, ``export``, ``deploy`` or ``infer``.
    :raises MedllmError: naming each one, with what it is called now or the closest name there is.
    """
    if importlib.util.find_spec("swift") is None:
        log.warning("ms-swift is not installed here, so the names of %s were not checked", ", ".join(sorted(names)))
        return
    known = known_arguments()[command]
    problems = []
    for name in names:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = SUCCESSORS.get(name) or (f"did you mean {close[0]}?" if close else "nothing is called like it")
        problems.append(f"{name} ({hint})")
    if problems:
        raise MedllmError(f"ms-swift {importlib.metadata.version('ms-swift')} has no argument {'; '.join(problems)}")


@cache
def known_arguments() -> dict[str, list[str]]:
    """The argument names of each command; read once for each version of ms-swift, then from a file.

    :raises MedllmError: if ms-swift is not installed or cannot be imported.
    """
    try:
        # Most arguments of a training are transformers' own.
        versions = [importlib.metadata.version(name) for name in ("ms-swift", "transformers")]
    except importlib.metadata.PackageNotFoundError as error:
        raise MedllmError("ms-swift is not installed here: install the extra `train`") from error
    path = home() / "cache" / f"swift_arguments_{'_'.join(versions)}.json"
    if not path.is_file():
        command = [sys.executable, "-m", "medllm_ops.swift.arguments", str(path)]
        environment = {**os.environ, **process_environment(path.parent)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MedllmError(f"ms-swift {versions[0]} cannot be imported: {reason}")
    return dict(read_json(path))


def _read_arguments() -> dict[str, list[str]]:
    from swift import (
        DeployArguments,
        ExportArguments,
        InferArguments,
        PretrainArguments,
        RLHFArguments,
        SftArguments,
    )

    classes = {
        "pt": PretrainArguments,
        "sft": SftArguments,
        "rlhf": RLHFArguments,
        "export": ExportArguments,
        "deploy": DeployArguments,
        "infer": InferArguments,
    }
    return {
        name: sorted(field.name for field in dataclasses.fields(kind) if field.init) for name, kind in classes.items()
    }


if __name__ == "__main__":
    write_json(Path(sys.argv[1]), _read_arguments())
