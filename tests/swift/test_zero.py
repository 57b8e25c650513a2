"""Shards that DeepSpeed's own code has written, put together again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift import zero
from medllm_ops.swift.adopt import adopt, is_full_checkpoint
from medllm_ops.swift.checkpoints import is_finite
from medllm_ops.swift.merge_request import MergeRequest

# Trains the tiny model for two steps under ZeRO-3, and saves what ms-swift would without gathering. The weights as they
# were then are left beside the checkpoint.
TRAIN = """
import sys
import deepspeed, torch
from pathlib import Path
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

out = Path(sys.argv[2])
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
settings = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero_allow_untested_optimizer": True,
}
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
engine, *_ = deepspeed.initialize(model=model, config=settings, optimizer=optimizer)
for _ in range(2):
    tokens = torch.arange(5, 21)[None]
    engine.backward(engine(input_ids=tokens, labels=tokens).loss)
    engine.step()
engine.save_checkpoint(str(out), tag="global_step2")
with deepspeed.zero.GatheredParameters(list(model.parameters())):
    weights = {name: each.detach().clone() for name, each in model.named_parameters()}
save_file(weights, out.parent / "expected.safetensors")
model.config.save_pretrained(out)
torch.save({}, out / "rng_state.pth")
"""


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, made in a process of its own; never write into it."""
    out = tmp_path_factory.mktemp("zero") / "checkpoint-2"
    script = out.parent / "train.py"
    script.write_text(TRAIN, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    command = [*launcher, str(script), str(tiny_model), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def request_of(checkpoint: Path, base: Path, folder: Path) -> MergeRequest:
    return MergeRequest(stage="sft", base=base, adapter=checkpoint, out=folder / "out", logs=folder / "logs")


def test_all_weights_become_the_model(trained: Path, tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = trained
    assert zero.is_only_sharded(checkpoint)
    assert is_full_checkpoint(checkpoint)
    assert is_finite(checkpoint)
    request = request_of(checkpoint, tiny_model, tmp_path)
    result = adopt(request)
    expected = load_file(checkpoint.parent / "expected.safetensors")
    found = load_file(result.folder / "model.safetensors")
    assert sorted(found) == sorted(expected)
    for name, weights in expected.items():
        assert np.array_equal(found[name], weights), name
    proof = read_json(result.folder / "merge.json")
    assert (proof["passed"], proof["consolidated_shards"]) == (True, 2)
    assert proof["adapter"] == str(checkpoint)
    # Nothing but the model is left, and it is not made a second time.
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == []
    assert adopt(request).reused
    # Other shards are another model.
    (shard, *_) = zero.shards(checkpoint)
    shard.write_bytes(shard.read_bytes() + b"\0")
    assert not adopt(request).reused
    assert not [path.name for path in result.folder.iterdir() if path.suffix in (".py", ".pt")]


def test_weights_that_are_there_are_taken_as_they_are(trained: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("adapter_config.json", "model.safetensors")):
        checkpoint = Path(shutil.copytree(trained, tmp_path / f"checkpoint-{number}"))
        (checkpoint / name).touch()
        assert zero.sources(checkpoint) == []
        with zero.whole_weights(checkpoint, tmp_path / "consolidated") as folder:
            assert folder == checkpoint


def test_numbers_that_are_none_are_seen_in_the_shards(trained: Path, tmp_path: Path) -> None:
    import torch

    checkpoint = Path(shutil.copytree(trained, tmp_path / "checkpoint-2"))
    assert is_finite(checkpoint)
    (shard,) = checkpoint.glob("global_step2/*_optim_states.pt")
    state = torch.load(shard, weights_only=False)
    state["optimizer_state_dict"]["fp32_flat_groups"][0].data[7] = float("nan")
    torch.save(state, shard)
    assert not is_finite(checkpoint)


def test_shards_of_some_ranks_are_not_enough(trained: Path, tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(trained, tmp_path / "checkpoint-2"))
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    shutil.copy(checkpoint / "rng_state_0.pth", checkpoint / "rng_state_1.pth")
    with pytest.raises(MedllmError, match="trained by 2 ranks, and the shards of some are missing"):
        adopt(request_of(checkpoint, tiny_model, tmp_path))
    assert not (tmp_path / "out").exists()


def test_shards_that_cannot_be_read_are_said_to_be(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-2"
    write_json(checkpoint / "config.json", json.loads((tiny_model / "config.json").read_text()))
    (checkpoint / "global_step2").mkdir()
    (checkpoint / "latest").write_text("global_step2")
    (checkpoint / "rng_state.pth").touch()
    for kind in ("model", "optim"):
        (checkpoint / f"global_step2/zero_pp_rank_0_mp_rank_00_{kind}_states.pt").write_bytes(b"no archive")
    with pytest.raises(MedllmError, match="cannot be put together"):
        adopt(request_of(checkpoint, tiny_model, tmp_path))


@pytest.mark.parametrize(
    ("names", "ranks", "whole"),
    [
        (["mp_rank_00_model_states.pt"], 2, True),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], 1, True),
        (["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], 2, False),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], 1, False),
        ([], 1, False),
    ],
)
def test_every_rank_has_to_have_left_its_own(tmp_path: Path, names: list[str], ranks: int, whole: bool) -> None:
    (tmp_path / "global_step2").mkdir()
    (tmp_path / "latest").write_text("global_step2\n")
    for name in names:
        (tmp_path / "global_step2" / name).touch()
    assert zero.has_every_shard(tmp_path, ranks) is whole


def test_a_checkpoint_without_any_of_it_is_not_sharded(tmp_path: Path) -> None:
    assert zero.shards(tmp_path) == []
    assert not zero.is_only_sharded(tmp_path)
