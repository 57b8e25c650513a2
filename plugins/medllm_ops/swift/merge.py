"""Merge an adapter into its base with ``swift export``, prove the result, and only then give it its name.

The whole merge can run as one job, so that it is found again, or repeated, as a whole::

    python -m medllm_ops.swift.merge REQUEST.json RESULT.json
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.files import (
    alone_at,
    file_hash,
    put_in_place,
    read_json,
    text_hash,
    to_json_line,
    write_json,
)
from medllm_ops.models.resolve import refuse_remote_code
from medllm_ops.swift.environment import process_environment
from medllm_ops.swift.merge_request import (
    PROOF_FILE,
    DType,
    MergeRequest,
    MergeResult,
    base_dtype,
    existing_proof,
    file_sizes,
    run_request,
)
from medllm_ops.swift.prepared import Processes, Waiting


def merge(request: MergeRequest, processes: Processes | None = None) -> MergeResult:
    """Merge, prove, name: ``request.out`` is there whole and proven afterwards, or as it was before.

    A folder that was merged from the same inputs is returned as it is; one from other inputs is replaced.

    :param processes: how the export and the proof are started.
    :raises MedllmError: if the base or the adapter cannot be merged, ``swift export`` fails, or the proof does; the
        sentence names the tensors or the log; or if another process writes to ``request.out``.
    """
    _check_inputs(request)
    with alone_at(request.out):
        return _merge(request, processes or Processes())


def _merge(request: MergeRequest, processes: Processes) -> MergeResult:
    dtype = request.dtype or base_dtype(request.base)
    inputs = input_hashes(request, dtype)
    if (proof := existing_proof(request.out, inputs)) is not None:
        return MergeResult(request.out, proof, reused=True)
    part = request.out.with_name(f".{request.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    request.logs.mkdir(parents=True, exist_ok=True)
    try:
        proof = _export_and_prove(request, part, dtype, processes)
        proof |= {"inputs": inputs, "files": file_sizes(part)}
        write_json(part / PROOF_FILE, proof)
        put_in_place(part, request.out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return MergeResult(request.out, proof, reused=False)


def export_command(request: MergeRequest, part: Path, dtype: DType) -> tuple[list[str], dict[str, str]]:
    """Return the command line of ``swift export`` and its environment; source: ms-swift 4.6 ``ExportArguments``.

    The module is run instead of the ``swift`` launcher: that one only starts a second Python, costs seconds, and
    leaves its child behind when it is killed.
    """
    options = {
        "model": str(request.base),
        "adapters": str(request.adapter),
        "merge_lora": "true",
        "output_dir": str(part),
        "torch_dtype": dtype,
        "max_shard_size": request.max_shard_size,
        # Nothing is computed, so the attention of the training run need not be available here.
        "attn_impl": "eager",
        # An adapter's args.json can name plugins, which ms-swift would import: all that is needed is given here.
        "load_args": "false",
    }
    if request.device == "cpu":
        options["device_map"] = "cpu"
    if request.model_type:
        options["model_type"] = request.model_type
    if request.template:
        options["template"] = request.template
    argv = [sys.executable, "-m", "medllm_ops.swift.launch", "swift.cli.export"]
    for name, value in options.items():
        argv += [f"--{name}", value]
    return argv, process_environment(request.logs / "cache")


def proof_command(request: MergeRequest, part: Path, dtype: DType, out: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the proof (:mod:`medllm_ops.swift.proof`) and its environment."""
    argv = [sys.executable, "-m", "medllm_ops.swift.proof"]
    argv += ["--base", str(request.base), "--adapter", str(request.adapter), "--merged", str(part)]
    argv += ["--out", str(out), "--stage", request.stage, "--device", request.device]
    if request.dtype:
        argv += ["--dtype", dtype]
    if request.trust_remote_code:
        argv.append("--trust-remote-code")
    return argv, process_environment(request.logs / "cache")


def input_hashes(request: MergeRequest, dtype: DType) -> dict[str, str]:
    """Hashes of everything that the merged model depends on."""
    settings = [dtype, request.max_shard_size, request.model_type, request.template]
    return {
        "base": _hash_files(request.base, ("config.json", "tokenizer*", "*.jinja", "*.safetensors")),
        "adapter": _hash_files(request.adapter, ("adapter_config.json", "*.safetensors")),
        "settings": text_hash(to_json_line(settings).decode()),
    }


def _hash_files(folder: Path, patterns: tuple[str, ...]) -> str:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return text_hash("\n".join(f"{file.name} {file_hash(file)}" for file in files))


def _check_inputs(request: MergeRequest) -> None:
    if not (request.base / "config.json").is_file():
        raise MedllmError(f"cannot merge: {request.base} has no config.json, so it is no model folder")
    if not (request.adapter / "adapter_config.json").is_file():
        raise MedllmError(f"cannot merge: {request.adapter} has no adapter_config.json, so it is no LoRA checkpoint")
    if read_json(request.base / "config.json").get("quantization_config"):
        raise MedllmError(f"cannot merge: {request.base} is quantised by its config.json; take the unquantised model")
    if not request.trust_remote_code:
        refuse_remote_code(request.base)


def _export_and_prove(request: MergeRequest, part: Path, dtype: DType, processes: Processes) -> dict[str, Any]:
    # The proof's process imports what it needs meanwhile, and begins to read when all is written.
    prover = _prepare_proof(request, part, dtype, processes)
    try:
        _export(request, part, dtype, processes)
        return _prove(request, prover)
    finally:
        prover.end()


def _export(request: MergeRequest, part: Path, dtype: DType, processes: Processes) -> None:
    argv, environment = export_command(request, part, dtype)
    log = request.logs / "export.log"
    code = processes.run(argv, environment, log)
    if code != 0 or not part.is_dir():
        raise MedllmError(f"stage {request.stage}: swift export ended with exit code {code}; see {log}")
    _settle_arguments(part / "args.json", dtype)


def _settle_arguments(file: Path, dtype: DType) -> None:
    """Correct swift's copy of the training arguments: it reads them again when the merged model is served.

    Quantisation was for training only, and the dtype may have been too.
    """
    if file.is_file():
        values: dict[str, Any] = read_json(file)
        write_json(file, values | dict.fromkeys(("model", "quant_method", "quant_bits")) | {"torch_dtype": dtype})


def _proof_files(request: MergeRequest) -> tuple[Path, Path]:
    return request.logs / "merge_proof.json", request.logs / "proof.log"


def _prepare_proof(request: MergeRequest, part: Path, dtype: DType, processes: Processes) -> Waiting:
    result, log = _proof_files(request)
    result.unlink(missing_ok=True)
    argv, environment = proof_command(request, part, dtype, result)
    return processes.prepare([*argv, "--wait"], environment, log)


def _prove(request: MergeRequest, prover: Waiting) -> dict[str, Any]:
    result, log = _proof_files(request)
    code = prover.finish()
    if not result.is_file():
        raise MedllmError(f"stage {request.stage}: the merge proof ended with exit code {code}; see {log}")
    proof: dict[str, Any] = read_json(result)
    if code != 0 or not proof["passed"]:
        reasons = "; ".join(proof["failures"][:5]) or f"exit code {code}"
        raise MedllmError(f"stage {request.stage}: the merged model is not base + adapter: {reasons}; see {result}")
    return proof


if __name__ == "__main__":
    sys.exit(run_request(merge, sys.argv[1:]))
