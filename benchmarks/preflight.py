"""What preflight estimates against what a training takes, on this processor: ``python benchmarks/preflight.py``.

Small models of random weights are trained by ms-swift itself. Resident memory is the highest that the kernel saw of the
training process (getrusage), a step's time the mean of ms-swift's own log without the first step. Two estimates of the
time are made before: from the operations and the rate of this processor (as a run's preflight does), and from a
measured step of the model cut down to one and three layers (``--probe``). The cases of ``FITTED`` are what
``CPU_PROCESS`` and ``CPU_FRAGMENTATION`` were taken from; those of ``HELD_OUT`` were written down after that, and were
used for no constant.

For a GPU: ``medllm-ops preflight --probe`` on a host that has one. Not run.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.files import file_hash, write_json, write_json_lines
from medllm_ops.models.tiny import MODEL_TYPE, TEMPLATE, make_tiny_model
from medllm_ops.swift.command import build
from medllm_ops.swift.counting import count_tokens
from medllm_ops.swift.preflight.estimate import Estimate, Target, estimate
from medllm_ops.swift.preflight.memory import CPU_PROCESS, GIBI
from medllm_ops.swift.preflight.preflight import cpu_speed
from medllm_ops.swift.preflight.probe import probe
from medllm_ops.swift.preflight.rows import read_rows
from medllm_ops.swift.preflight.shape import read_shape
from medllm_ops.swift.recipe import StageRecipe
from medllm_ops.swift.template import TemplateSettings

STEPS = 6
LAST = f"{STEPS}/{STEPS}"


@dataclass(frozen=True, slots=True)
class Case:
    """A model, the characters of its rows, and a stage's settings."""

    name: str
    hidden: int
    layers: int
    characters: tuple[int, int]
    settings: dict[str, Any]


FULL = {"tuner_type": "full", "learning_rate": 1e-4, "gradient_checkpointing": False}
LORA = {"lora_rank": 16, "lora_dropout": 0.05, "gradient_checkpointing": False}
FITTED = (
    Case("base", 16, 2, (50, 60), {**LORA, "per_device_train_batch_size": 1}),
    Case("all weights", 384, 6, (300, 1200), {**FULL, "per_device_train_batch_size": 6}),
    Case("lora, dropout", 512, 6, (200, 900), {**LORA, "per_device_train_batch_size": 8}),
    Case(
        "lora, recomputed, long rows",
        512,
        10,
        (1500, 2500),
        {**LORA, "lora_dropout": 0.0, "gradient_checkpointing": True, "per_device_train_batch_size": 4},
    ),
    Case(
        "all weights, eager, accumulated",
        256,
        8,
        (500, 1500),
        {**FULL, "attn_impl": "eager", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    ),
)

HELD_OUT = (
    Case("lora, no dropout", 640, 4, (400, 1600), {**LORA, "lora_dropout": 0.0, "per_device_train_batch_size": 4}),
    Case(
        "all weights, recomputed",
        320,
        12,
        (800, 2000),
        {**FULL, "gradient_checkpointing": True, "per_device_train_batch_size": 6},
    ),
    Case(
        "lora of rank 64, eager",
        384,
        8,
        (300, 1000),
        {**LORA, "lora_rank": 64, "attn_impl": "eager", "per_device_train_batch_size": 8},
    ),
    Case(
        "all weights, wide, accumulated",
        768,
        4,
        (600, 2000),
        {**FULL, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ),
)


def stage_of(case: Case) -> StageRecipe:
    """The stage of a case."""
    values = {"max_steps": STEPS, "max_length": 1024, "logging_steps": 1, "eval_rows": 4, **case.settings}
    return StageRecipe.model_validate({"per_device_eval_batch_size": 1, **values})


def make_dataset(case: Case, model: Path, folder: Path) -> Path:
    """A frozen dataset of made-up words, its tokens counted as an export counts them."""
    draw = random.Random(case.name)
    words = ["the", "patient", "was", "given", "a dose", "of", "aspirin", "and", "after", "ten", "days", "improved"]
    for side, count in (("train", 160), ("val", 8)):
        rows = []
        for number in range(count):
            wanted, text = draw.randint(*case.characters), ""
            while len(text) < wanted:
                text += draw.choice(words) + " "
            rows.append({"id": f"{side}:{number}", "messages": [{"role": "assistant", "content": text}]})
        (folder / side).mkdir(parents=True)
        write_json_lines(folder / side / "made.jsonl", rows)
    files = {folder / side / "made.jsonl": "pretrain" for side in ("train", "val")}
    counts = count_tokens(files, TemplateSettings(model, MODEL_TYPE, TEMPLATE, ""))
    figures = {
        "stage": "pretrain",
        "train": 160,
        "val": 8,
        "tokens": sum(counts.by_file[folder / "train" / "made.jsonl"]),
        "max_length": 1024,
        "hashes": {side: file_hash(folder / side / "made.jsonl") for side in ("train", "val")},
    }
    write_json(folder / "manifest.json", {"sets": {"made": figures}})
    return folder


def train(case: Case, model: Path, dataset: Path, folder: Path) -> tuple[float, float]:
    """Peak resident memory in GiB and seconds a step of ms-swift's training.

    :raises RuntimeError: if it fails.
    """
    command = build(
        stage_of(case),
        "pt",
        model_dir=model,
        model_type=MODEL_TYPE,
        template=TEMPLATE,
        torch_dtype="float32",
        system=None,
        train_files=[dataset / "train" / "made.jsonl"],
        val_files=[dataset / "val" / "made.jsonl"],
        output_dir=folder / "output",
    )
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command.argv, env={**os.environ, **command.env}, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{case.name}: {(folder / 'log').read_text(errors='replace')[-2000:]}")
    lines = [orjson.loads(line) for line in (folder / "output" / "logging.jsonl").read_bytes().splitlines()]
    means = {row["global_step/max_steps"]: row["train_speed(s/it)"] for row in lines if "train_speed(s/it)" in row}
    seconds = (means[LAST] * STEPS - means[f"1/{STEPS}"]) / (STEPS - 1)
    return usage.ru_maxrss * 1024 / GIBI, seconds


def predict(case: Case, model: Path, dataset: Path, speed: float) -> tuple[Estimate, float]:
    """The estimate, and a step's seconds from a probe."""
    stage = stage_of(case)
    rows = read_rows(dataset, "pretrain", stage)
    one = partial(estimate, "pretrain", dtype="float32", shape=read_shape(str(model)), rows=rows)
    need = one(stage, target=Target(None, 1, None, speed))
    assert need.steps
    length = round(need.computed_tokens / need.steps / need.setup.rows_a_step)
    return need, probe(model, stage, "float32", length).seconds * stage.gradient_accumulation_steps


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fitted", action="store_true", help="the cases that constants were taken from, instead")
    cases = FITTED if parser.parse_args().fitted else HELD_OUT
    print("| case | GiB est. | meas. | error | beyond base | s/step ops | probe | meas. | error ops | probe |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            model = make_tiny_model(folder / "model", hidden_size=case.hidden, layers=case.layers)
            dataset = make_dataset(case, model, folder / "dataset")
            # Before and after: what else the machine does changes.
            before = cpu_speed()
            need, probed = predict(case, model, dataset, before)
            assert need.steps
            assert need.work
            rss, seconds = train(case, model, dataset, folder)
            computed = need.work.training / need.steps / max(before, cpu_speed())
        base = CPU_PROCESS / GIBI
        errors = [value / measured - 1 for value, measured in ((computed, seconds), (probed, seconds))]
        beyond = (need.memory.gibibytes - base) / (rss - base) - 1
        print(
            f"| {case.name} | {need.memory.gibibytes:.2f} | {rss:.2f} | {need.memory.gibibytes / rss - 1:+.0%} "
            f"| {beyond:+.0%} | {computed:.2f} | {probed:.2f} | {seconds:.2f} | {errors[0]:+.0%} | {errors[1]:+.0%} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
