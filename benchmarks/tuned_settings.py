"""Tokens per second of tuned settings over those of 2024: ``python benchmarks/tuned_settings.py``.

Same model, same rows in as many optimizer steps of as many rows, same course of the learning rate. Each line changes
one setting more. Tokens are those of the rows, without padding; time is that of the training alone, without start-up
and evaluation. Processor seconds are those of the training process with all its threads, and are what to look at on a
machine that does other work. The loss is that of the validation rows after the training, one row at a time, in all
lines alike.

For a GPU, where packing and flash attention can be had (not run)::

    python benchmarks/tuned_settings.py --device cuda --model Qwen/Qwen3-14B --model-type qwen3 --template qwen3 \
        --dataset RUN/dataset --rows 2048
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import step_clock

from medllm_ops import chain
from medllm_ops.compute.places import place_for
from medllm_ops.files import read_json, read_json_lines, write_json_lines
from medllm_ops.models.resolve import resolve_model
from medllm_ops.parameters import Parameters
from medllm_ops.run import Run
from medllm_ops.swift.command import build, parse_kept_rows, parse_logged_rows
from medllm_ops.swift.counting import count_tokens
from medllm_ops.swift.progress import read_end
from medllm_ops.swift.recipe import StageRecipe, load_recipe
from medllm_ops.swift.template import TemplateSettings

REFERENCE = "qwen_14b_chat_2024"
# Qwen's c_attn holds what other families have in three.
MODULES = {"c_attn": ("q_proj", "k_proj", "v_proj")}
VALIDATION_ROWS = 48


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings under a name: what they change in those of 2024."""

    name: str
    changes: dict[str, Any]
    dtype: str = "bfloat16"


NO_RECOMPUTATION = {"gradient_checkpointing": False}
LIKE_LENGTH = {**NO_RECOMPUTATION, "group_by_length": True}
NO_DROPOUT = {**LIKE_LENGTH, "lora_dropout": 0.0}
BY_FOUR = {**NO_DROPOUT, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
# On a processor, picking the tokens that have a label costs more than the output layer saves by it.
ALL_LOGITS = {**BY_FOUR, "extra": {"use_logits_to_keep": False}}
ONE_ROW = {**ALL_LOGITS, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 16}
CPU = (
    Variant("2024: batches of 8, padded, recomputed", {}),
    Variant("+ nothing recomputed", NO_RECOMPUTATION),
    Variant("+ rows of like length together", LIKE_LENGTH),
    Variant("+ no dropout in the adapter", NO_DROPOUT),
    Variant("+ batches of 4, 4 a step", BY_FOUR),
    Variant("+ logits of all tokens", ALL_LOGITS),
    Variant("or one row a batch, 16 a step", ONE_ROW),
)
FLOAT32 = (
    Variant("2024 in float32", {}, "float32"),
    Variant("batches of 4, as above, in float32", ALL_LOGITS, "float32"),
)
FLASH = {"attn_impl": "flash_attn"}
LIGER = {"use_liger_kernel": True}
CUDA = (
    Variant("2024: batches of 8, padded, recomputed", {}),
    Variant("+ flash attention", FLASH),
    Variant("+ rows of like length together", {**FLASH, "group_by_length": True}),
    Variant("or rows without padding", {**FLASH, "extra": {"padding_free": True}}),
    Variant("+ liger kernels", {**FLASH, "extra": {"padding_free": True, **LIGER}}),
    Variant("+ nothing recomputed", {**FLASH, **NO_RECOMPUTATION, "extra": {"padding_free": True, **LIGER}}),
)


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of one stage, and how many tokens those of the training have."""

    stage: str
    train: Path
    val: Path
    rows: int
    val_rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What one training took, and what it ended with; ``memory`` is the most that was resident, in GiB."""

    wall: float
    processor: float
    memory: float
    loss: float
    steps: int


def stage_of(stage: str, variant: Variant, epochs: float) -> StageRecipe:
    """The settings of 2024 with the changes of a variant, for one process and one evaluation at the end."""
    settings = load_recipe(REFERENCE).stages[stage]
    values = settings.model_dump(mode="json", exclude_none=True)
    for name in ("deepspeed", "eval_steps", "save_steps", "save_total_limit"):
        values.pop(name, None)
    values["target_modules"] = [part for name in settings.target_modules for part in MODULES.get(name, (name,))]
    own = {"checkpoint": "last", "num_train_epochs": epochs, "logging_steps": 1, "per_device_eval_batch_size": 1}
    plugin = {"external_plugins": str(Path(step_clock.__file__).resolve()), "callbacks": step_clock.NAME}
    extra = {**values["extra"], **variant.changes.get("extra", {}), **plugin}
    return StageRecipe.model_validate({**values, **own, **variant.changes, "extra": extra})


def demo_dataset(model: str) -> Path:
    """The demo's dataset, made by the chain's own steps; found again when it was made before."""
    run = Run.create("benchmark-tuned-settings", Parameters(recipe="demo", model=model))
    for name in ("plan", "convert", "curate", "sets", "export"):
        chain.step(name).execute(run, place_for("local"))
    return run.dataset


def draw(dataset: Path, stage: str, wanted: int, template: TemplateSettings, folder: Path) -> Data:
    """Rows of all sets of a stage, drawn with a fixed seed, as one file a side; as many as make whole steps of 16."""
    sets = [name for name, found in read_json(dataset / "manifest.json")["sets"].items() if found["stage"] == stage]
    files = {}
    for side, limit in (("train", wanted), ("val", VALIDATION_ROWS)):
        rows = [row for name in sorted(sets) for row in read_json_lines(dataset / side / f"{name}.jsonl")]
        random.Random(stage).shuffle(rows)
        count = min(limit, len(rows))
        files[side] = folder / f"{side}.jsonl"
        write_json_lines(files[side], rows[: count // 16 * 16 if side == "train" else count])
    counts = count_tokens(dict.fromkeys(files.values(), stage), template).by_file
    return Data(
        stage,
        files["train"],
        files["val"],
        len(counts[files["train"]]),
        len(counts[files["val"]]),
        sum(counts[files["train"]]),
    )


def train(variant: Variant, data: Data, template: TemplateSettings, device: str, epochs: float, work: Path) -> Trial:
    """Train once.

    :raises RuntimeError: if ms-swift fails, or keeps other rows than it was given.
    """
    stage = stage_of(data.stage, variant, epochs)
    command = build(
        stage,
        "pt" if data.stage == "pretrain" else "sft",
        model_dir=template.model_dir,
        model_type=template.model_type,
        template=template.template,
        torch_dtype=variant.dtype,
        system=template.system,
        train_files=[data.train],
        val_files=[data.val],
        output_dir=work / "output",
        device="cpu" if device == "cpu" else None,
    )
    clock, log = work / "clock.jsonl", work / "log"
    environment = {**os.environ, **command.env, step_clock.FILE: str(clock)}
    with log.open("wb") as output:
        child = subprocess.Popen(command.argv, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{variant.name}: exit code {child.returncode}: {log.read_text(errors='replace')[-2000:]}")
    end = read_end(work / "output")
    assert end
    assert end.eval_loss is not None
    kept = parse_logged_rows(log.read_text(errors="replace")) if stage.packing else parse_kept_rows(end.summary)
    if kept != (data.rows, data.val_rows):
        raise RuntimeError(f"{variant.name}: ms-swift kept {kept} rows of {(data.rows, data.val_rows)}")
    times = [orjson.loads(line) for line in clock.read_bytes().splitlines()]
    (_, wall, processor), (_, wall_end, processor_end) = times[0], times[-1]
    return Trial(wall_end - wall, processor_end - processor, usage.ru_maxrss / 2**20, end.eval_loss, end.step)


def main() -> None:
    """Print a table in Markdown for each stage; the first line of a table is what the others are held against."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a name, a folder or a hub id")
    parser.add_argument("--model-type", default="llama")
    parser.add_argument("--template", default="chatml")
    parser.add_argument("--dataset", type=Path, help="a frozen dataset; the demo's by default")
    parser.add_argument("--stages", nargs="+", default=["pretrain", "sft"])
    parser.add_argument("--rows", type=int, default=160, help="of each stage, at most")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="of all lines, in turns; medians are printed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--float32", action="store_true", help="two more lines, in float32; on a processor only")
    parser.add_argument("--lines", type=int, nargs="+", help="only these lines of the table, from 1 on")
    asked = parser.parse_args()
    model = resolve_model(asked.model)
    template = TemplateSettings(model, asked.model_type, asked.template, "")
    dataset = (asked.dataset or demo_dataset(asked.model)).resolve()
    variants = CUDA if asked.device == "cuda" else CPU + (FLOAT32 if asked.float32 else ())
    if asked.lines:
        variants = tuple(variants[number - 1] for number in asked.lines)
    for stage in asked.stages:
        with tempfile.TemporaryDirectory() as folder:
            data = draw(dataset, stage, asked.rows, template, Path(folder))
            said = f"{data.rows} rows, {data.tokens} tokens, {data.val_rows} held out, epochs {asked.epochs:g}"
            print(f"\n{stage}: {said}\n")
            print(
                "| settings | tokens/s | … of processor | times 2024 | … of processor | GiB | held-out loss | steps |"
            )
            print("|---|---|---|---|---|---|---|---|", flush=True)
            trials: dict[str, list[Trial]] = {}
            for number in range(asked.rounds):
                for place, variant in enumerate(variants):
                    work = Path(folder, f"{number}-{place}")
                    work.mkdir()
                    trial = train(variant, data, template, asked.device, asked.epochs, work)
                    trials.setdefault(variant.name, []).append(trial)
                    print(f"{variant.name}: {trial}", file=sys.stderr, flush=True)
        tokens = data.tokens * asked.epochs
        first: list[float] = []
        for variant in variants:
            done = trials[variant.name]
            rates = [tokens / statistics.median(trial.wall for trial in done)]
            rates.append(tokens / statistics.median(trial.processor for trial in done))
            first = first or rates
            print(
                f"| {variant.name} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[0] / first[0]:.2f} "
                f"| {rates[1] / first[1]:.2f} | {done[0].memory:.2f} | {done[0].loss:.4f} | {done[0].steps} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
