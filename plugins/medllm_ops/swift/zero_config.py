"""DeepSpeed's settings of a recipe, held against DeepSpeed's own classes; neither the model nor a GPU is needed.

``python -m medllm_ops.swift.zero_config REQUEST RESULT`` does it for all stages at once: transformers' class puts the
recipe's values where a configuration says ``auto`` and finds those that contradict it, DeepSpeed's reads what results.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, text_hash, to_json_line, write_json
from medllm_ops.home import home
from medllm_ops.swift.arguments import known_arguments
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.recipe import DEEPSPEED_NAMES, Recipe, StageRecipe, command_of

# What DeepSpeed's and transformers' classes read beside the fields of a stage.
_ARGUMENTS = ("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm")
# A model's width, for sizes that are computed from it.
_ANY_WIDTH = 1024


def check_deepspeed(recipe: Recipe) -> list[str]:
    """Hold the DeepSpeed settings of all stages against the installed DeepSpeed, and return what a user should know.

    :raises MedllmError: naming the stage, the configuration and what DeepSpeed refuses.
    """
    notes: list[str] = []
    asked: dict[str, Any] = {}
    for name, stage in recipe.stages.items():
        if not stage.deepspeed:
            continue
        if not _is_installed():
            notes.append(f"stages.{name}: DeepSpeed is not installed here: deepspeed {stage.deepspeed} was not checked")
            continue
        file = _file(stage.deepspeed)
        if not file.is_file():
            notes.append(f"stages.{name}: deepspeed {stage.deepspeed} is not here: it was not read")
            continue
        settings = _read(recipe, name, file)
        asked[name] = {"settings": settings, "arguments": _arguments(stage, recipe.torch_dtype, command_of(name))}
        notes += [f"stages.{name}: {note}" for note in _notes(settings, stage.tuner_type == "full")]
    answers = _ask(asked) if asked else {}
    for name, stage in recipe.stages.items():
        found = answers.get(name, {"problem": None, "notes": []})
        if found["problem"]:
            raise MedllmError(f"recipe {recipe.name}: stages.{name}.deepspeed {stage.deepspeed}: {found['problem']}")
        notes += [f"stages.{name}: {note}" for note in found["notes"]]
    return notes


def _is_installed() -> bool:
    return importlib.util.find_spec("deepspeed") is not None


def _file(name: str) -> Path:
    """The file of a configuration; those that have names ship with ms-swift."""
    if name not in DEEPSPEED_NAMES:
        return Path(name)
    found = importlib.util.find_spec("swift")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "config" / f"{name}.json"


def _read(recipe: Recipe, name: str, file: Path) -> dict[str, Any]:
    where = f"recipe {recipe.name}: stages.{name}.deepspeed {file}"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MedllmError(f"{where} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise MedllmError(f"{where} has to be an object of settings, and is a {type(settings).__name__}")
    return settings


def _arguments(stage: StageRecipe, dtype: str | None, command: str) -> dict[str, Any]:
    known = known_arguments()[command]
    values: dict[str, Any] = {name: float(known[name]["default"]) for name in _ARGUMENTS if name in known}
    values |= {name: stage.extra[name] for name in _ARGUMENTS if name in stage.extra}
    for name, half in (("fp16", "float16"), ("bf16", "bfloat16")):
        # None: decided by the model, which need not be here.
        values[name] = stage.extra.get(name, None if dtype is None else dtype == half)
    return values | {
        "world_size": stage.ranks,
        "per_device_train_batch_size": stage.per_device_train_batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation_steps,
        "learning_rate": stage.learning_rate,
        "weight_decay": stage.weight_decay,
        "max_steps": stage.max_steps,
        "warmup_ratio": stage.warmup_ratio,
    }


def _notes(settings: Mapping[str, Any], full: bool) -> list[str]:
    zero = settings.get("zero_optimization")
    if not isinstance(zero, dict):
        return []
    notes = []
    if full and zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        notes.append("its checkpoints hold shards only: they are put together when the stage is merged")
    if any((zero.get(key) or {}).get("device", "none") != "none" for key in ("offload_optimizer", "offload_param")):
        notes.append("offloading builds an operation of DeepSpeed at its first start: that needs a C++ compiler")
    return notes


def _ask(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The findings for each stage; kept for the same question to the same versions."""
    versions = [importlib.metadata.version(name) for name in ("deepspeed", "transformers")]
    answer = home() / "cache" / f"deepspeed_{text_hash(to_json_line([versions, asked]).decode())[:16]}.json"
    if not answer.is_file():
        with tempfile.TemporaryDirectory() as folder:
            request = Path(folder, "request.json")
            write_json(request, asked)
            command = [sys.executable, "-m", "medllm_ops.swift.zero_config", str(request), str(answer)]
            environment = {**os.environ, **process_environment(answer.parent)}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MedllmError(f"DeepSpeed {versions[0]} cannot be asked about its settings: {reason}")
    return dict(read_json(answer))


class _Read(dict[str, Any]):
    """Settings that remember which of them were asked for."""

    asked: set[str]

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def _judge(settings: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What DeepSpeed refuses of one configuration, and which keys it never looks at."""
    from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
    from pydantic import ValidationError
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    keys = set(settings)
    arguments = SimpleNamespace(**values, save_on_each_node=False, fp16_full_eval=False, bf16_full_eval=False)
    for name in ("fp16", "bf16"):
        if getattr(arguments, name) is None:
            said = (settings.get(name) or {}).get("enabled", False)
            setattr(arguments, name, name == "bf16" if said == "auto" else said)
    steps = arguments.max_steps or 1000
    arguments.get_warmup_steps = lambda count: int(count * arguments.warmup_ratio)
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=_ANY_WIDTH))
    try:
        filled = HfTrainerDeepSpeedConfig(settings)
        filled.trainer_config_process(arguments)
        if arguments.max_steps is None:
            # How many steps so many passes are is known with the data only.
            for name in ("total_num_steps", "warmup_num_steps"):
                filled.fill_only(f"scheduler.params.{name}", steps)
        filled.trainer_config_finalize(arguments, model, steps)
        read = _Read(filled.config)
        read.asked = set()
        # No ranks run here: DeepSpeed takes itself for the only one.
        read["train_batch_size"] = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
        DeepSpeedConfig(read)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, each['loc']))} is {each['input']!r}: {each['msg']}" for each in error.errors()]
        return {"problem": "; ".join(told), "notes": []}
    except (ValueError, TypeError, AssertionError, LookupError, AttributeError, DeepSpeedConfigError) as error:
        return {"problem": " ".join(str(error).split()), "notes": []}
    notes = []
    for key in sorted(keys - read.asked):
        close = difflib.get_close_matches(key, read.asked, n=1)
        notes.append(f"DeepSpeed does not look at {key}" + (f": did you mean {close[0]}?" if close else ""))
    return {"problem": None, "notes": notes}


if __name__ == "__main__":
    questions = read_json(Path(sys.argv[1]))
    write_json(Path(sys.argv[2]), {name: _judge(row["settings"], row["arguments"]) for name, row in questions.items()})
