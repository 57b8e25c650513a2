"""A stage that trained all weights has nothing to merge: its checkpoint becomes the model, whole and checked, or not.

What a stage of adapters gets from :mod:`medllm_ops.swift.merge`, such a stage gets from here: a folder without the
training's state, and ``merge.json`` with what was proven::

    python -m medllm_ops.swift.adopt REQUEST.json RESULT.json
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, whole_directory, write_json
from medllm_ops.models.resolve import refuse_remote_code
from medllm_ops.swift import zero
from medllm_ops.swift.merge_request import (
    PROOF_FILE,
    MergeRequest,
    MergeResult,
    base_dtype,
    existing_proof,
    file_sizes,
    run_request,
)
from medllm_ops.swift.proof import check_files

RULE = "the weights are the checkpoint's own, byte for byte; each has the base's name and shape, and is finite"
_WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
_SETTINGS = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")
# What a checkpoint holds for going on with the training, or says of it.
_OF_THE_TRAINING = frozenset(
    {"args.json", "trainer_state.json", "model.safetensors.index.json", PROOF_FILE, *zero.SCRIPTS}
)
MOST_FAILURES = 50


def is_full_checkpoint(checkpoint: Path) -> bool:
    """Whether it holds a model, and no adapter."""
    whole = any(checkpoint.glob("model*.safetensors")) or zero.is_only_sharded(checkpoint)
    return not (checkpoint / zero.ADAPTER_SETTINGS).is_file() and whole


def adopt(request: MergeRequest) -> MergeResult:
    """Make ``request.out`` of the checkpoint ``request.adapter`` of a training of all weights, or leave all as it was.

    :raises MedllmError: if the checkpoint is not whole, or its weights are not those of the base, trained.
    """
    started = time.monotonic()
    if not request.trust_remote_code:
        refuse_remote_code(request.base)
    shards = [request.adapter / name for name in zero.sources(request.adapter)]
    inputs = {file.name: file_hash(file) for file in shards or _weights(request.adapter)} | {"base": str(request.base)}
    if (proof := existing_proof(request.out, inputs)) is not None:
        return MergeResult(request.out, proof, reused=True)
    beside = request.logs / "consolidated"
    with zero.whole_weights(request.adapter, beside) as checkpoint, whole_directory(request.out) as part:
        # The checkpoint's own settings count; what it leaves out is as it was.
        for folder in (request.base, checkpoint):
            for pattern in _SETTINGS:
                for file in folder.glob(pattern):
                    if file.name not in _OF_THE_TRAINING:
                        shutil.copyfile(file, part / file.name)
        for file in _weights(checkpoint):
            shutil.copyfile(file, part / file.name)
        proof = _prove(replace(request, adapter=checkpoint), part) | {"adapter": str(request.adapter)}
        proof |= {"consolidated_shards": len(shards)}
        proof |= {"seconds": round(time.monotonic() - started, 3), "inputs": inputs, "files": file_sizes(part)}
        if not proof["passed"]:
            reasons = "; ".join(proof["failures"][:5])
            raise MedllmError(f"stage {request.stage}: {request.adapter} is no trained {request.base}: {reasons}")
        write_json(part / PROOF_FILE, proof)
    return MergeResult(request.out, proof, reused=False)


def _weights(checkpoint: Path) -> list[Path]:
    files = sorted({file for pattern in _WEIGHTS for file in checkpoint.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        raise MedllmError(f"{checkpoint} has neither weights (model*.safetensors) nor DeepSpeed's shards of them")
    return files


def _prove(request: MergeRequest, part: Path) -> dict[str, Any]:
    dtype = base_dtype(part)
    failures = check_files(request.base, part, dtype)
    figures = _compare(request.base, part, failures)
    for source in _weights(request.adapter):
        if file_hash(source) != file_hash(part / source.name):
            failures.append(f"{source.name} was not copied as it is")
    return {
        "stage": request.stage,
        "passed": not failures,
        "failures": failures,
        "base": str(request.base),
        "adapter": str(request.adapter),
        "max_abs_diff": 0.0,
        "tolerance": 0.0,
        "tolerance_rule": RULE,
        "logits": {"max_abs_diff": None, "tolerance": None, "prompts": 0},
        "adapted_tensors": 0,
        "dtype": dtype,
        **figures,
    }


def _compare(base: Path, after: Path, failures: list[str]) -> dict[str, Any]:
    """Which weights moved, and how far; what is wrong is added to ``failures``."""
    import torch

    before, trained = _tensors(base), _tensors(after)
    # A tied head is on disk in one of the two only.
    for name in sorted((set(before) ^ set(trained)) - {"lm_head.weight"})[:MOST_FAILURES]:
        failures.append(f"{name} is {'missing' if name in before else 'new'} in the checkpoint")
    changes: list[float] = []
    unchanged = 0
    for name in sorted(set(before) & set(trained)):
        old, new = before[name].get_tensor(name).float(), trained[name].get_tensor(name).float()
        if old.shape != new.shape:
            failures.append(f"{name} has the shape {tuple(new.shape)}, the base's has {tuple(old.shape)}")
        elif not bool(torch.isfinite(new).all()):
            failures.append(f"{name} has values that are not finite")
        elif bool(torch.equal(old, new)):
            unchanged += 1
        else:
            norm = float(old.norm())
            changes.append(float((new - old).norm()) / norm if norm else float("inf"))
    if not changes:
        failures.append("no weight was changed by the training")
    finite = [change for change in changes if change != float("inf")]
    return {
        "replaced_tensors": len(changes),
        "unchanged_tensors": unchanged,
        "relative_change": {"min": min(finite, default=None), "max": max(finite, default=None)},
    }


def _tensors(folder: Path) -> dict[str, Any]:
    """The open file of each tensor, by name."""
    from safetensors import safe_open

    files = [safe_open(file, framework="pt") for file in sorted(folder.glob("*.safetensors"))]
    return {name: file for file in files for name in file.keys()}  # type: ignore[no-untyped-call]  # noqa: SIM118


if __name__ == "__main__":
    sys.exit(run_request(adopt, sys.argv[1:]))
