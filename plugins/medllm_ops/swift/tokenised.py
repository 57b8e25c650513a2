"""The rows of a stage, made ready once by ``swift export --to_cached_dataset`` for all its ranks and attempts.

ms-swift keeps the rows and how many tokens each has, which it needs for packing and for batches of like length, and to
refuse rows that are too long; the tokens themselves are made while it trains. Where this is left to the training, all
ranks hold their GPU and wait for the first one, in every attempt anew.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from medllm_ops.files import count_lines
from medllm_ops.swift.command import Command, Kind, data_arguments, flags
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.request import TrainRequest

# Of ms-swift's DataArguments and TemplateArguments, what a recipe's ``extra`` may name.
_EXTRA = frozenset(
    {
        "agent_template",
        "dataset_num_proc",
        "dataset_shuffle",
        "disable_auto_column_mapping",
        "enable_thinking",
        "external_plugins",
        "max_pixels",
        "norm_bbox",
        "remove_unused_columns",
        "template_backend",
        "val_dataset_shuffle",
    }
)
# A process more for so many rows.
_ROWS_A_PROCESS = 5_000


def is_wanted(request: TrainRequest) -> bool:
    """Whether the rows of a stage are made ready before its ranks start."""
    if request.stage == "dpo":
        # ms-swift would make pairs ready for another trainer.
        return False
    chosen = request.recipe.tokenise_first
    return request.recipe.gpus > 1 if chosen is None else chosen


def folder(request: TrainRequest) -> Path:
    """Where they lie: whole, or not there. It goes with the stage's folder when its settings or data change."""
    return request.directory / "tokenised"


def find(request: TrainRequest) -> Path | None:
    """The rows that were made ready, if they were and are wanted."""
    there = folder(request)
    return there if is_wanted(request) and there.is_dir() else None


def part(request: TrainRequest) -> Path:
    """Where they lie until they are whole."""
    return request.directory / ".tokenised.part"


def command(request: TrainRequest, kind: Kind) -> Command:
    """The command that makes them ready, in :func:`part`; what an earlier one left there is removed."""
    shutil.rmtree(part(request), ignore_errors=True)
    recipe = request.recipe
    rows = sum(count_lines(path) for path in request.train_files)
    arguments: dict[str, Any] = {
        "to_cached_dataset": True,
        "model": str(request.model_dir),
        "model_type": request.model_type,
        "template": request.template,
        "torch_dtype": request.torch_dtype,
        "use_chat_template": False if kind == "pt" else None,
        "system": request.system if kind == "sft" else None,
        **data_arguments(recipe, request.train_files, request.val_files),
        "max_length": recipe.max_length,
        "output_dir": str(part(request)),
        # The order of the rows does not depend on it.
        "dataset_num_proc": max(1, min(os.cpu_count() or 1, rows // _ROWS_A_PROCESS)),
        **{name: value for name, value in recipe.extra.items() if name in _EXTRA},
    }
    argv = (sys.executable, "-m", "swift.cli.export", *flags(arguments))
    return Command(argv, process_environment(request.directory / "cache"))


def finish(request: TrainRequest) -> bool:
    """Give whole rows their name; return False if one side is missing."""
    made = part(request)
    if not all((made / side / "dataset_info.json").is_file() for side in ("train", "val")):
        return False
    made.rename(folder(request))
    return True
