"""The proof that a merged model on disk is base + adapter, run as a process of its own.

::

    python -m medllm_ops.swift.proof --base DIR --adapter DIR --merged DIR --out merge_proof.json

It reads nothing but what lies on disk, and checks that

- the folder is complete: config (right dtype, no stale ``quantization_config``), generation config, tokenizer, chat
  template;
- every adapted weight is ``base + scale * B * A``. The sum is rounded to the dtype once, B * A and its factors once
  more where the adapter was loaded in that dtype; the limit for each element (``tensors.RULE``) is twice what these
  roundings can make, plus float32 accumulation. As an update smaller than the spacing of its dtype vanishes in
  rounding, the share of it that survives is compared with the share that must survive;
- every other tensor has the base's name, shape, dtype and bits; ``modules_to_save`` those of the adapter;
- the adapter is not zero, the update is not lost in rounding, and nothing is NaN or infinite;
- base + adapter (transformers and PEFT) and the merged model give the same logits for fixed prompts, within
  ``eps * sqrt(2 * layers + 1) * largest logit``, where ``eps`` is half that of the merged weights plus 16 times
  that of the arithmetic: rounding errors of the layers add up like a random walk.

Exit code 0: proven; 1: refuted, or not provable. Either way the figures, or the reasons, are in the result file.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.models.folder import load_model
from medllm_ops.swift.launch import quick_imports
from medllm_ops.swift.prepared import wait_for_word

PROMPTS = (
    "黄芪的功效是什么？",
    "患者，男，56岁，反复胸闷三月，活动后加重。",
    "The primary outcome was overall survival at 12 months.",
    "Question: Which vitamin deficiency causes scurvy?\nAnswer:",
)
# In runs with a 30-layer model, differences were a sixth of these limits with 1.0 (bfloat16, float16) and 16.
ROUNDING_FACTOR = 0.5
ARITHMETIC_FACTOR = 16.0
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "qwen.tiktoken")


def check_files(base: Path, merged: Path, dtype: str) -> list[str]:
    """Return what the merged folder lacks, or carries along by mistake, beside its weights."""
    failures = [
        f"{name} is missing in the merged model"
        for name in ("config.json", "generation_config.json", "tokenizer_config.json")
        if not (merged / name).is_file()
    ]
    if not any((merged / name).is_file() for name in _TOKENIZER_FILES):
        failures.append("the tokenizer is missing in the merged model")
    if _has_chat_template(base) and not _has_chat_template(merged):
        failures.append("the chat template of the base is missing in the merged model")
    if (merged / "config.json").is_file():
        config = read_json(merged / "config.json")
        if config.get("quantization_config"):
            failures.append("config.json of the merged model still has a quantization_config")
        named = config.get("dtype") or config.get("torch_dtype")
        if named and named != dtype:
            failures.append(f"config.json of the merged model says {named}, its weights are {dtype}")
    return failures


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(read_json(file).get("chat_template"))


def check_tensors(base: Path, adapter: Path, merged: Path, dtype: str | None) -> dict[str, Any]:
    """Compare the weights; return the part of the result that tells about them.

    :raises MedllmError: if a file is missing, cut off, or of a kind that cannot be proven.
    """
    import torch

    from medllm_ops.swift import lora, tensors

    parts = lora.read_adapter(adapter)
    before, after = tensors.Weights(base), tensors.Weights(merged)
    config = read_json(base / "config.json")
    # Old configs leave the key out; then a head of its own tells.
    tied = bool(config.get("tie_word_embeddings", tensors.HEAD not in before.names))
    found = tensors.compare(before, parts, after, tied=tied, dtype=getattr(torch, dtype) if dtype else None)
    return {
        "failures": found.failures,
        "max_abs_diff": found.max_abs_diff,
        "tolerance": found.tolerance,
        "tolerance_rule": tensors.RULE,
        "worst_tensor": found.worst,
        "adapted_tensors": len(parts.updates),
        "replaced_tensors": len(parts.replaced),
        "unchanged_tensors": found.unchanged,
        "relative_change": _extremes(found.relative_change),
        "update_surviving_rounding": _extremes(found.share),
        "dtype": str(after.main_dtype()).removeprefix("torch."),
    }


def _extremes(values: dict[str, float]) -> dict[str, float | None]:
    return {"min": min(values.values(), default=None), "max": max(values.values(), default=None)}


def check_logits(
    base: Path, adapter: Path, merged: Path, *, dtype: str, device: str, trust_remote_code: bool
) -> dict[str, Any]:
    """Run the prompts through base + adapter, then through the merged model; one of them is in memory at a time.

    :param dtype: of the merged weights.
    :param device: ``cpu`` (computes in float32) or ``cuda`` (in ``dtype``; the memory of one model is enough).
    """
    import torch

    compute = "float32" if device == "cpu" else dtype
    prompts = _encode_prompts(base, merged, trust_remote_code)
    before, effect = _adapter_logits(base, adapter, prompts, compute, device, trust_remote_code)
    gc.collect()
    model = _load(merged, compute, device, trust_remote_code)
    after = _logits(model, prompts)
    layers = int(getattr(model.config.get_text_config(), "num_hidden_layers", 1))
    if [each.shape for each in before] != [each.shape for each in after]:
        return {"failures": ["logits: the merged model has a vocabulary of another size than base + adapter"]}
    diff = max(float((left - right).abs().max()) for left, right in zip(before, after, strict=True))
    largest = max(float(each.abs().max()) for each in before)
    rounding = ROUNDING_FACTOR * torch.finfo(getattr(torch, dtype)).eps if dtype != compute else 0.0
    eps = rounding + ARITHMETIC_FACTOR * torch.finfo(getattr(torch, compute)).eps
    tolerance = eps * math.sqrt(2 * layers + 1) * largest
    failures = []
    if not math.isfinite(diff) or diff > tolerance:
        failures.append(f"logits differ by up to {diff:.3g}, {tolerance:.3g} allowed")
    return {
        "failures": failures,
        "max_abs_diff": diff if math.isfinite(diff) else None,
        "tolerance": tolerance,
        "prompts": len(PROMPTS),
        "largest_logit": largest,
        "adapter_effect": effect,
        "compute_dtype": compute,
    }


def _encode_prompts(base: Path, merged: Path, trust_remote_code: bool) -> list[list[int]]:
    from transformers import AutoTokenizer

    rows = []
    for folder in (base, merged):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        rows.append([list(tokenizer(prompt).input_ids) for prompt in PROMPTS])
    if rows[0] != rows[1]:
        raise MedllmError("the tokenizer of the merged model encodes the prompts differently from the base's")
    return rows[1]


def _load(folder: Path, dtype: str, device: str, trust_remote_code: bool) -> Any:
    import torch

    return load_model(folder, getattr(torch, dtype), trust_remote_code=trust_remote_code).to(device).eval()


def _logits(model: Any, prompts: list[list[int]]) -> list[Any]:
    import torch

    with torch.inference_mode():
        rows = [model(input_ids=torch.tensor([ids], device=model.device)).logits for ids in prompts]
    return [row.float().cpu() for row in rows]


def _adapter_logits(
    base: Path, adapter: Path, prompts: list[list[int]], compute: str, device: str, trust_remote_code: bool
) -> tuple[list[Any], float]:
    """The logits of base + adapter, and how far the adapter moves those of the base alone."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(_load(base, compute, device, trust_remote_code), adapter).eval()
    with_adapter = _logits(model, prompts)
    with model.disable_adapter():
        without = _logits(model, prompts)
    return with_adapter, max(
        float((left - right).abs().max()) for left, right in zip(with_adapter, without, strict=True)
    )


def prove(
    base: Path,
    adapter: Path,
    merged: Path,
    *,
    stage: str = "",
    dtype: str | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Return the proof; ``passed`` tells how it went and ``failures`` why, naming tensors and files.

    :param dtype: what the merged weights must have; None means the base's, tensor by tensor.
    """
    start = time.monotonic()
    proof: dict[str, Any] = {
        "stage": stage,
        "passed": False,
        "max_abs_diff": None,
        "tolerance": None,
        "logits": {"max_abs_diff": None, "tolerance": None, "prompts": 0},
        "base": str(base),
        "adapter": str(adapter),
    }
    failures: list[str] = []
    try:
        proof |= check_tensors(base, adapter, merged, dtype)
        failures = proof.pop("failures") + check_files(base, merged, proof["dtype"])
        if not failures:
            # Weights that are wrong already need no second, slower refutation.
            proof["logits"] = check_logits(
                base, adapter, merged, dtype=proof["dtype"], device=device, trust_remote_code=trust_remote_code
            )
            failures += proof["logits"].pop("failures")
    except MedllmError as error:
        failures.append(str(error))
    proof["passed"] = not failures
    proof["seconds"] = round(time.monotonic() - start, 3)
    proof["failures"] = failures
    return proof


def _import() -> None:
    """Import what takes seconds, and nothing of the models: the proof may have to wait for them."""
    with quick_imports():
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from medllm_ops.swift import tensors

    del PeftModel, AutoModelForCausalLM, AutoTokenizer, tensors


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments (those of the process by default), prove, write the result; return the exit code."""
    parser = argparse.ArgumentParser(description="Prove that a merged model is base + adapter.")
    for name in ("base", "adapter", "merged", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--stage", default="")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the base's own")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--wait", action="store_true", help="begin when a byte comes on standard input")
    arguments = vars(parser.parse_args(argv))
    # Everything lies on disk: no hub is asked.
    os.environ["HF_HUB_OFFLINE"] = "1"
    out = arguments.pop("out")
    _import()
    if arguments.pop("wait") and not wait_for_word():
        print("whoever wanted the proof has gone", file=sys.stderr)
        return 1
    proof = prove(**arguments)
    write_json(out, proof)
    for failure in proof["failures"]:
        print(failure, file=sys.stderr)
    return 0 if proof["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
