"""From a validated stage to the command line and environment of a swift process. Pure: nothing is started here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.recipe import DEEPSPEED_NAMES, PreferenceRecipe, Scalar, StageRecipe, is_ours

Kind = Literal["pt", "sft", "rlhf"]

_OWN_FIELDS = frozenset(name for name in PreferenceRecipe.model_fields if is_ours(name))
_LORA_FIELDS = frozenset({"lora_rank", "lora_alpha", "lora_dropout", "target_modules"})
_KEPT_ROWS = re.compile(r"size=(\d+)")
_LOGGED_ROWS = r"{name}: Dataset\(\{{[^}}]*?num_rows: (\d+)"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: an absolute command and what it finds in its environment."""

    argv: tuple[str, ...]
    env: dict[str, str]


def build(
    stage: StageRecipe,
    kind: Kind,
    *,
    model_dir: Path,
    model_type: str | None,
    template: str | None,
    torch_dtype: str | None,
    system: str | None,
    train_files: Sequence[Path],
    val_files: Sequence[Path],
    output_dir: Path,
    resume_from: Path | None = None,
    tokenised: Path | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> Command:
    """The command of one training.

    ``python -m swift.cli.sft`` is what the ``swift`` launcher starts; starting it directly leaves out a parent that
    dies on SIGTERM while the trainer lives on. DeepSpeed and more than one process (``stage.ranks``) need torchrun
    above them; where several nodes meet is told by the environment.

    :param tokenised: the rows of the files, made ready by :mod:`medllm_ops.swift.tokenised`, to be read in their place.
    :param device: what they train on; None lets ms-swift find it, which it does rightly for one process only.
    :raises MedllmError: if a path is not absolute or does not exist (ms-swift would look for it on the hub), or if
        ``device`` is not said for several processes.
    """
    _check_paths(stage, [model_dir, *train_files, *val_files, *([resume_from] if resume_from else [])], output_dir)
    if stage.ranks > 1 and device is None:
        # On a machine without a GPU, each process would train a model of its own, all in the same folder.
        raise MedllmError(f"{stage.ranks} processes need a device: cpu or cuda")
    arguments: dict[str, Any] = {
        "model": str(model_dir),
        "model_type": model_type,
        "template": template,
        "torch_dtype": torch_dtype,
        # A pretraining template has no system turn, and ms-swift refuses even an empty one.
        "system": None if kind == "pt" else system,
        "check_model": False,
        **data_arguments(stage, train_files, val_files, tokenised),
        "output_dir": str(output_dir),
        "add_version": False,
        "create_checkpoint_symlink": False,
        "save_only_model": False,
        "resume_from_checkpoint": str(resume_from) if resume_from else None,
        "report_to": "none",
        # Otherwise a loss that is no number is logged as the mean of those before it.
        "logging_nan_inf_filter": False,
        "dataloader_num_workers": 0,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "use_cpu": True if device == "cpu" else None,
        **({"fp16": False, "bf16": False} if torch_dtype == "float32" else {}),
        **_stage_arguments(stage),
        **stage.extra,
    }
    launcher: tuple[str, ...] = (sys.executable, "-m")
    if needs_launcher(stage):
        # Standalone: it finds a free port, so that jobs beside each other do not meet.
        alone = ("--standalone",) if stage.nodes == 1 else ()
        launcher += ("torch.distributed.run", *alone, "--nproc_per_node", str(stage.gpus), "-m")
    argv = (*launcher, "medllm_ops.swift.launch", f"swift.cli.{kind}", *flags(arguments))
    return Command(argv, process_environment(output_dir.parent / "cache"))


def data_arguments(
    stage: StageRecipe, train_files: Sequence[Path], val_files: Sequence[Path], tokenised: Path | None = None
) -> dict[str, Any]:
    """Which rows ms-swift takes, and in which order."""
    rows: dict[str, Any] = {
        "dataset": _even_shares(train_files, stage.ranks),
        "val_dataset": [_first_rows(path, stage.eval_rows) for path in val_files],
    }
    if tokenised:
        rows = {"cached_dataset": str(tokenised / "train"), "cached_val_dataset": str(tokenised / "val")}
    return {
        **rows,
        "split_dataset_ratio": 0,
        # A row that cannot be encoded ends the training at its start. Otherwise ms-swift drops it with exit code 0, or
        # trains on another one in its place.
        "strict": True,
        # A model for images would tokenise each row when its turn comes, and nothing would say how many were kept.
        "lazy_tokenize": False,
        # In the folder of this stage, which is cleared when settings or rows change: a resumed training reads it again.
        "load_from_cache_file": True,
        "data_seed": stage.seed,
    }


def needs_launcher(stage: StageRecipe) -> bool:
    """Whether a stage is trained under torchrun."""
    return stage.ranks > 1 or stage.deepspeed is not None


def rows_repeated(rows: int, ranks: int) -> int:
    """How many rows are trained on twice in a pass, so that each process gets as many as the others.

    ms-swift gives each of N ranks ``rows // N``, and never touches the rest.
    """
    return -rows % ranks


def _even_shares(files: Sequence[Path], ranks: int) -> list[str]:
    names = [str(path) for path in files]
    counts = [count_lines(path) for path in files]
    if again := rows_repeated(sum(counts), ranks):
        # ms-swift draws some rows of path#N again where N is more than there are; the largest set has enough of them.
        largest = counts.index(max(counts))
        names[largest] += f"#{counts[largest] + again}"
    return names


def rows_scored(path: Path, eval_rows: int) -> int:
    """How many rows of a validation file are scored on the way."""
    rows = count_lines(path)
    return min(rows, eval_rows) if eval_rows else rows


def _first_rows(path: Path, eval_rows: int) -> str:
    # ms-swift takes the first N of path#N; where there are fewer, it repeats some.
    wanted = rows_scored(path, eval_rows)
    return f"{path}#{wanted}" if wanted < count_lines(path) else str(path)


def _check_paths(stage: StageRecipe, inputs: Sequence[Path], output_dir: Path) -> None:
    if stage.deepspeed and stage.deepspeed not in DEEPSPEED_NAMES:
        inputs = [*inputs, Path(stage.deepspeed)]
    for path in inputs:
        if not path.is_absolute() or not path.exists():
            raise MedllmError(f"{path} must be an absolute path that exists")
    if not output_dir.is_absolute():
        raise MedllmError(f"{output_dir} must be an absolute path")


def _stage_arguments(stage: StageRecipe) -> dict[str, Any]:
    left_out = _OWN_FIELDS if stage.tuner_type != "full" else _OWN_FIELDS | _LORA_FIELDS
    values = stage.model_dump(mode="json", exclude=set(left_out), exclude_none=True)
    # Where no interval is given, evaluate and save once, at the end: save_steps no longer follows eval_steps.
    for name in ("eval_steps", "save_steps"):
        values.setdefault(name, stage.max_steps or 1_000_000_000)
    return values


def flags(arguments: Mapping[str, Scalar | list[Scalar] | None]) -> list[str]:
    """Arguments as flags. One without a value is left out: ms-swift reads null as the word None."""
    flags: list[str] = []
    for name, value in arguments.items():
        if value is None:
            continue
        values = [_text(item) for item in (value if isinstance(value, list) else [value])]
        if len(values) == 1 and values[0].startswith("-"):
            # Its own word would be taken for a flag.
            flags.append(f"--{name}={values[0]}")
        else:
            flags += [f"--{name}", *values]
    return flags


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_kept_rows(summary: Mapping[str, Any]) -> tuple[int, int]:
    """The rows that ms-swift kept for training and validation, from the last line of ``logging.jsonl``.

    :raises MedllmError: if the line does not say.
    """
    kept = []
    for name in ("train_dataset", "val_dataset"):
        found = _KEPT_ROWS.search(str(summary.get(name, "")))
        if not found:
            raise MedllmError(
                f"ms-swift does not say how many rows of {name} it kept: {json.dumps(dict(summary))[:200]}"
            )
        kept.append(int(found[1]))
    return kept[0], kept[1]


def parse_logged_rows(log: str) -> tuple[int, int]:
    """The rows that ms-swift kept, from what it printed: the only place where packing leaves their number.

    :param log: the job's log; of several attempts in it, the last one counts.
    :raises MedllmError: if the log does not say.
    """
    kept = []
    for name in ("train_dataset", "val_dataset"):
        found = re.findall(_LOGGED_ROWS.format(name=name), log)
        if not found:
            raise MedllmError(f"the log of ms-swift does not say how many rows of {name} it kept")
        kept.append(int(found[-1]))
    return kept[0], kept[1]
