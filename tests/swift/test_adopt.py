"""A checkpoint of all weights becomes the model, or nothing does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.adopt import adopt, is_full_checkpoint
from medllm_ops.swift.merge_request import MergeRequest

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], None]


def moved(tensors: dict[str, Any]) -> None:
    for name in tensors:
        tensors[name] = tensors[name] * 1.01


@pytest.fixture
def request_(tiny_model: Path, tmp_path: Path, edit_tensors: Edit) -> MergeRequest:
    checkpoint = Path(shutil.copytree(tiny_model, tmp_path / "checkpoint-3"))
    edit_tensors(checkpoint / "model.safetensors", moved)
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    # What DeepSpeed leaves in each checkpoint is no code of the model.
    (checkpoint / "zero_to_fp32.py").touch()
    write_json(checkpoint / "trainer_state.json", {"global_step": 3})
    # As ms-swift leaves it out.
    (checkpoint / "generation_config.json").unlink()
    return MergeRequest(stage="sft", base=tiny_model, adapter=checkpoint, out=tmp_path / "out", logs=tmp_path / "logs")


def test_the_checkpoint_becomes_the_model_without_the_trainings_state(request_: MergeRequest) -> None:
    assert is_full_checkpoint(request_.adapter)
    result = adopt(request_)
    names = {file.name for file in result.folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "merge.json"} <= names
    assert not {"optimizer.pt", "trainer_state.json", "zero_to_fp32.py"} & names
    assert (result.folder / "model.safetensors").read_bytes() == (request_.adapter / "model.safetensors").read_bytes()
    proof = read_json(result.folder / "merge.json")
    assert proof["passed"]
    assert proof["relative_change"]["max"] == pytest.approx(0.01, rel=1e-3)
    # Biases start as zeros.
    assert proof["replaced_tensors"] > proof["unchanged_tensors"]


def test_it_is_done_once(request_: MergeRequest) -> None:
    assert not adopt(request_).reused
    assert adopt(request_).reused
    (request_.out / "model.safetensors").write_bytes(b"")
    assert not adopt(request_).reused


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.update({name: each / 1.01 for name, each in tensors.items()}), ""),
        (lambda tensors: tensors["model.norm.weight"].fill_(float("nan")), "model.norm.weight has values that are not"),
        (lambda tensors: tensors.pop("model.norm.weight"), "model.norm.weight is missing in the checkpoint"),
        (lambda tensors: tensors.update(x=tensors["model.norm.weight"].clone()), "x is new in the checkpoint"),
        (
            lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"][:-1].clone()}),
            r"model.norm.weight has the shape \(15,\), the base's has \(16,\)",
        ),
    ],
)
def test_weights_that_are_not_the_bases_trained_are_refused(
    request_: MergeRequest, edit_tensors: Edit, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    if not sentence:
        shutil.copyfile(request_.base / "model.safetensors", request_.adapter / "model.safetensors")
        sentence = "no weight was changed by the training"
    else:
        edit_tensors(request_.adapter / "model.safetensors", change)
    with pytest.raises(MedllmError, match=sentence):
        adopt(request_)
    assert not request_.out.exists()


def test_a_checkpoint_without_weights_is_refused(request_: MergeRequest) -> None:
    (request_.adapter / "model.safetensors").unlink()
    assert not is_full_checkpoint(request_.adapter)
    with pytest.raises(MedllmError, match=r"neither weights .* nor DeepSpeed's shards"):
        adopt(request_)


def test_code_of_the_base_is_refused(request_: MergeRequest, tiny_model: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    (base / "modeling_x.py").write_text("", encoding="utf-8")
    changed = MergeRequest.from_row({**request_.to_row(), "base": str(base)})
    with pytest.raises(MedllmError, match="code that comes with the model"):
        adopt(changed)
