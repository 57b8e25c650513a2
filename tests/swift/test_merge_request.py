"""What both kinds of merges share: the dtype, the folder that is there already, and the process."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.merge_request import (
    PROOF_FILE,
    MergeRequest,
    MergeResult,
    base_dtype,
    existing_proof,
    file_sizes,
    other_dtypes,
    run_request,
)


@pytest.fixture
def request_(tmp_path: Path) -> MergeRequest:
    paths = {name: tmp_path / name for name in ("base", "adapter", "out", "logs")}
    return MergeRequest(stage="sft", **paths)


@pytest.fixture
def argv(request_: MergeRequest, tmp_path: Path) -> Iterator[list[str]]:
    write_json(tmp_path / "request.json", request_.to_row())
    before = signal.getsignal(signal.SIGTERM)
    yield [str(tmp_path / "request.json"), str(tmp_path / "result.json")]
    signal.signal(signal.SIGTERM, before)


def test_the_dtype_is_the_one_of_the_weights_on_disk(tiny_model: Path, tmp_path: Path, edit_tensors):
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    assert base_dtype(base) == "float32"
    assert other_dtypes(base) == []

    def halve(tensors: dict[str, Any]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items() if "norm" not in name})
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = next(iter(tensors.values())).half()

    edit_tensors(base / "model.safetensors", halve)
    assert base_dtype(base) == "bfloat16"
    assert other_dtypes(base) == ["float32"]
    (base / "model.safetensors").write_bytes(b"half")
    with pytest.raises(MedllmError, match="was cut off"):
        base_dtype(base)
    (base / "model.safetensors").unlink()
    with pytest.raises(MedllmError, match="no weights"):
        base_dtype(base)


def test_a_folder_counts_only_whole_and_from_the_same_inputs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert existing_proof(out, {}) is None
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(MedllmError, match="was not made by a merge; move it away"):
        existing_proof(out, {})
    proof = {"passed": True, "inputs": {"base": "1"}, "files": file_sizes(out)}
    write_json(out / PROOF_FILE, proof)
    assert existing_proof(out, {"base": "1"}) == proof
    assert existing_proof(out, {"base": "2"}) is None
    (out / "model.safetensors").write_bytes(b"half")
    assert existing_proof(out, {"base": "1"}) is None


def test_the_process_tells_its_result_or_its_reason(
    argv: list[str], request_: MergeRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(asked: MergeRequest) -> MergeResult:
        raise MedllmError(f"stage {asked.stage}: no")

    assert run_request(refuse, argv) == 1
    assert capsys.readouterr().err == "stage sft: no\n"
    assert not Path(argv[1]).exists()
    assert run_request(lambda asked: MergeResult(asked.out, {"passed": True}, reused=False), argv) == 0
    assert read_json(Path(argv[1])) == {"folder": str(request_.out), "reused": False, "proof": {"passed": True}}


def test_sigterm_leaves_through_what_cleans_up(argv: list[str], request_: MergeRequest) -> None:
    def half(asked: MergeRequest) -> MergeResult:
        asked.out.mkdir()
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            asked.out.rmdir()
        raise AssertionError

    with pytest.raises(SystemExit) as left:
        run_request(half, argv)
    assert left.value.code == 128 + signal.SIGTERM
    assert not request_.out.exists()
