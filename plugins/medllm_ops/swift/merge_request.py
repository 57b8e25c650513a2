"""What a merge is asked for and leaves behind, whether an adapter is merged or all weights were trained.

Both ways (:mod:`medllm_ops.swift.merge`, :mod:`medllm_ops.swift.adopt`) run as one job each, so that they are found
again, or repeated, as a whole: a request file in, a result file out.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json

PROOF_FILE = "merge.json"
DType: TypeAlias = Literal["float32", "bfloat16", "float16"]

_DTYPES: dict[str, DType] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# A buffer of old checkpoints, which is computed from the config and no longer saved.
_RECOMPUTED = "rotary_emb.inv_freq"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRequest:
    """What to merge into what.

    :param stage: the stage that trained the adapter; for the report.
    :param base: model folder, unquantised safetensors.
    :param adapter: LoRA checkpoint folder.
    :param out: the merged model's folder.
    :param logs: folder for the logs of ``swift export`` and the proof.
    :param model_type: ms-swift's family, for folders whose name does not tell it (``qwen2``, ``llama``).
    :param template: ms-swift's template type.
    :param dtype: of the merged weights; None means the base's own. (swift alone would take the dtype of training,
        and so turn a bfloat16 model that was trained in float32 into a float32 one.)
    :param device: where to merge and to compute the logits of the proof.
    :param trust_remote_code: needed where the base brings its own modelling code; ms-swift always executes such
        code, so without it a base that brings some is refused.
    """

    stage: str
    base: Path
    adapter: Path
    out: Path
    logs: Path
    model_type: str | None = None
    template: str | None = None
    dtype: DType | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    max_shard_size: str = "5GB"
    trust_remote_code: bool = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> MergeRequest:
        """Make a request from JSON values, as :meth:`to_row` gives them."""
        paths = {name: Path(row[name]).absolute() for name in ("base", "adapter", "out", "logs")}
        return cls(**{**row, **paths})

    def to_row(self) -> dict[str, Any]:
        """The request as JSON values."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merged and proven model.

    :param proof: what ``merge.json`` in the folder says.
    :param reused: True if it had been there before.
    """

    folder: Path
    proof: dict[str, Any]
    reused: bool


def base_dtype(base: Path) -> DType:
    """The dtype of most of the weights on disk, read from the headers; the config may say otherwise.

    :raises MedllmError: if the weights are missing, unreadable or quantised.
    """
    elements: dict[str, int] = {}
    for _, tensor in _tensors(base):
        elements[tensor["dtype"]] = elements.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    if not elements:
        raise MedllmError(f"model folder {base} has no weights in the safetensors format, so no merge can be proven")
    name = max(elements, key=lambda each: elements[each])
    if name not in _DTYPES:
        raise MedllmError(f"the weights of {base} are {name}: merge into the unquantised model instead")
    return _DTYPES[name]


def other_dtypes(base: Path) -> list[DType]:
    """The dtypes of weights that a merge turns into :func:`base_dtype`, unless transformers keeps them as they are."""
    named = {tensor["dtype"] for name, tensor in _tensors(base) if not name.endswith(_RECOMPUTED)}
    return sorted({_DTYPES[name] for name in named & _DTYPES.keys()} - {base_dtype(base)})


def _tensors(base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name, dtype and shape of each tensor, from the headers."""
    for file in sorted(base.glob("*.safetensors")):
        yield from _read_header(file).items()


def _read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(min(length, path.stat().st_size)))
        except (struct.error, ValueError) as error:
            raise MedllmError(f"{path} is no safetensors file, or was cut off: fetch the model again") from error
    header.pop("__metadata__", None)
    return header


def existing_proof(out: Path, inputs: dict[str, str]) -> dict[str, Any] | None:
    """The proof of an existing folder, if it is whole and made from these inputs.

    :raises MedllmError: if the folder was made by something else: it would be lost.
    """
    if not out.exists():
        return None
    if not (out / PROOF_FILE).is_file():
        raise MedllmError(f"cannot merge into {out}: it exists, but was not made by a merge; move it away")
    proof: dict[str, Any] = read_json(out / PROOF_FILE)
    same = proof.get("passed") and proof.get("inputs") == inputs and proof.get("files") == file_sizes(out)
    return proof if same else None


def file_sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file of a merged model, the proof left out, which holds this."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name != PROOF_FILE}


def _end_children_and_leave(number: int, frame: object) -> None:
    """End what runs below this process, then leave through the finally clauses, which remove what was written.

    subprocess alone would miss a child that was forked the moment before.
    """
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)
    sys.exit(128 + number)


def run_request(work: Callable[[MergeRequest], MergeResult], argv: list[str]) -> int:
    """The whole of a merge's process; returns the exit code.

    :param work: merges as the request says.
    :param argv: the request file, and the result file, which is to tell the folder and the proof.
    """
    signal.signal(signal.SIGTERM, _end_children_and_leave)
    request_file, result_file = map(Path, argv)
    try:
        result = work(MergeRequest.from_row(read_json(request_file)))
    except MedllmError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(result_file, {"folder": str(result.folder), "reused": result.reused, "proof": result.proof})
    return 0
