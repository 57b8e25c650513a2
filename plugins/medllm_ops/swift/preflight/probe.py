"""Measure a training step instead of computing it: ``python -m medllm_ops.swift.preflight.probe REQUEST RESULT``.

The model is made with two numbers of layers and random weights, and trains a step of random tokens with each; what one
layer more costs, in seconds and on a GPU in memory, is taken for every layer that the whole model has. Its weights are
not needed for that. A model of few layers is measured whole.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.recipe import StageRecipe

LAYERS = (1, 3)
STEPS = 4
PER_LAYER = ("layer_types", "mlp_layer_types")


@dataclass(frozen=True, slots=True)
class Probe:
    """A measured step of one batch: wall seconds, and on a GPU the bytes that it took at its fullest (else 0)."""

    seconds: float
    memory: int
    length: int
    batch: int


def probe(model: Path, stage: StageRecipe, dtype: str | None, length: int) -> Probe:
    """Measure a batch of rows of ``length`` tokens in a process of its own; a minute or two.

    :param model: a folder with a ``config.json`` that transformers knows without code of the model's own.
    :raises MedllmError: with the last line that the process printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        row = stage.model_dump(mode="json", exclude_none=True)
        write_json(request, {"model": str(model), "stage": row, "dtype": dtype, "length": length})
        command = [sys.executable, "-m", "medllm_ops.swift.preflight.probe", str(request), str(answer)]
        environment = {**os.environ, **process_environment(Path(folder))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise MedllmError(f"no step of {model} could be measured: {reason}")
        return Probe(**read_json(answer))


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request."""
    from transformers import AutoConfig

    stage = StageRecipe.model_validate(request["stage"])
    config = AutoConfig.from_pretrained(request["model"], trust_remote_code=False)
    text = config.get_text_config()
    whole = int(text.num_hidden_layers)
    counts = LAYERS if whole > LAYERS[-1] else (whole,)
    per_layer = {name: getattr(text, name) for name in PER_LAYER if getattr(text, name, None)}
    measured = []
    for count in counts:
        text.num_hidden_layers = count
        for name, values in per_layer.items():
            setattr(text, name, values[:count])
        measured.append(_step(config, stage, request["dtype"], request["length"]))
    seconds, memory = measured[0][0], float(measured[0][1])
    if len(measured) > 1:
        more = (whole - LAYERS[0]) / (LAYERS[1] - LAYERS[0])
        seconds += max(0.0, measured[1][0] - seconds) * more
        memory += max(0, measured[1][1] - memory) * more
    batch = stage.per_device_train_batch_size
    return {"seconds": seconds, "memory": int(memory), "length": request["length"], "batch": batch}


def _step(config: Any, stage: StageRecipe, dtype: str | None, length: int) -> tuple[float, int]:
    """The mean of some steps, the first one left out: it makes the optimizer's states."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = dtype or str(config.dtype or "bfloat16").removeprefix("torch.")
    settings: dict[str, Any] = {"attn_implementation": _attention(stage.attn_impl, device)}
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, name), trust_remote_code=False, **settings)
    model = model.to(device)
    model.config.use_cache = False
    if stage.tuner_type != "full":
        model = _with_adapters(model, stage)
    if stage.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-6)
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (stage.per_device_train_batch_size, length), device=device)
    mask = torch.ones_like(ids)
    if len(ids) > 1:
        # One row is shorter, as in a real batch: without padding, attention would take another kernel.
        mask[0, -1] = 0
    mixed = torch.autocast(device, dtype=torch.bfloat16) if name == "bfloat16" else contextlib.nullcontext()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with mixed:
            loss = model(input_ids=ids, attention_mask=mask, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sum(times[1:]) / len(times[1:]), int(torch.cuda.max_memory_allocated()) if device == "cuda" else 0


def _attention(name: str | None, device: str) -> str:
    flash = (name or "").startswith("flash")
    return "flash_attention_2" if flash and device == "cuda" else "eager" if name == "eager" else "sdpa"


def _with_adapters(model: Any, stage: StageRecipe) -> Any:
    from peft import LoraConfig, get_peft_model

    modules = "all-linear" if "all-linear" in stage.target_modules else stage.target_modules
    adapter = LoraConfig(
        r=stage.lora_rank,
        lora_alpha=stage.lora_alpha,
        lora_dropout=stage.lora_dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    model.enable_input_require_grads()
    return get_peft_model(model, adapter)


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), measure(read_json(Path(sys.argv[1]))))
