import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from medllm_ops.files import write_json
from medllm_ops.swift.checkpoints import is_whole, is_whole_safetensors, last_whole_checkpoint, step_of

ADAPTER = "adapter_model.safetensors"
STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def make_checkpoint(output: Path, step: int, weights: str = ADAPTER) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    tensors = {"a": np.arange(30, dtype=np.float32), "b": np.ones((2, 3), dtype=np.float16)}
    save_file(tensors, folder / weights, metadata={"format": "pt"})
    for name in STATE:
        # What torch.save writes: a zip whose members are stored.
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", bytes(range(200)))
            archive.writestr("archive/data/0", b"\1\2\3" * 100)
    write_json(folder / "trainer_state.json", {"global_step": step})
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "output", 20)


def cut(path: Path, to: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * to)])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"\1\2\3\1\2\3") + 100] ^= 1
    path.write_bytes(data)


def test_a_checkpoint_with_all_its_files_is_whole(checkpoint: Path) -> None:
    assert is_whole(checkpoint)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights missing": lambda folder: (folder / ADAPTER).unlink(),
    "weights empty": lambda folder: cut(folder / ADAPTER, 0),
    "weights cut in the header": lambda folder: cut(folder / ADAPTER, 0.2),
    "weights cut in the data": lambda folder: cut(folder / ADAPTER, 0.95),
    "weights full of zeros": lambda folder: (folder / ADAPTER).write_bytes(bytes(300)),
    "optimizer missing": lambda folder: (folder / "optimizer.pt").unlink(),
    "optimizer cut off": lambda folder: cut(folder / "optimizer.pt", 0.9),
    "optimizer empty": lambda folder: cut(folder / "optimizer.pt", 0),
    "optimizer damaged": lambda folder: flip(folder / "optimizer.pt"),
    "scheduler missing": lambda folder: (folder / "scheduler.pt").unlink(),
    "scheduler cut off": lambda folder: cut(folder / "scheduler.pt", 0.5),
    "random state missing": lambda folder: (folder / "rng_state.pth").unlink(),
    "trainer state missing": lambda folder: (folder / "trainer_state.json").unlink(),
    "trainer state cut off": lambda folder: cut(folder / "trainer_state.json", 0.5),
    "trainer state of another step": lambda folder: write_json(folder / "trainer_state.json", {"global_step": 19}),
    "trainer state without a step": lambda folder: write_json(folder / "trainer_state.json", {}),
    "trainer state that is a list": lambda folder: write_json(folder / "trainer_state.json", []),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_half_written_checkpoint_is_not_whole(checkpoint: Path, damage: str) -> None:
    DAMAGES[damage](checkpoint)
    assert not is_whole(checkpoint)


def test_several_processes_leave_a_random_state_each(checkpoint: Path) -> None:
    for rank in (0, 1):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    assert is_whole(checkpoint)
    cut(checkpoint / "rng_state_1.pth", 0.5)
    assert not is_whole(checkpoint)


def test_deepspeed_keeps_its_state_in_a_folder_of_its_own(checkpoint: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt"):
        (checkpoint / name).unlink()
    assert not is_whole(checkpoint)
    for rank in (0, 1):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    state = (checkpoint / "rng_state.pth").read_bytes()
    (checkpoint / "rng_state.pth").unlink()
    folder = checkpoint / "global_step20"
    folder.mkdir()
    (checkpoint / "latest").write_text("global_step20")
    for rank in (0, 1):
        for kind in ("model", "optim"):
            assert not is_whole(checkpoint)
            (folder / f"zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt").write_bytes(state)
    assert is_whole(checkpoint)
    cut(folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt", 0.9)
    assert not is_whole(checkpoint)
    (folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt").write_bytes(state)
    # DeepSpeed names the step last.
    (checkpoint / "latest").unlink()
    assert not is_whole(checkpoint)


def test_shards_are_enough_to_go_on_from(checkpoint: Path) -> None:
    """With ZeRO-3 that does not gather the weights, nothing else is there."""
    folder = checkpoint / "global_step20"
    folder.mkdir()
    (checkpoint / ADAPTER).unlink()
    assert not is_whole(checkpoint)
    for kind in ("model", "optim"):
        shutil.copy(checkpoint / "rng_state.pth", folder / f"zero_pp_rank_0_mp_rank_00_{kind}_states.pt")
    (checkpoint / "latest").write_text("global_step20")
    assert is_whole(checkpoint)


def test_a_model_in_several_files_needs_each_of_them(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 3, "model-00001-of-00002.safetensors")
    assert not is_whole(folder)
    shard = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": shard})
    assert not is_whole(folder)
    shutil.copy(folder / shard["a"], folder / shard["b"])
    assert is_whole(folder)
    cut(folder / shard["b"], 0.9)
    assert not is_whole(folder)


def test_the_last_whole_checkpoint_is_the_one_to_go_on_from(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path) is None
    for step in (5, 10, 100, 20):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-200").touch()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    cut(tmp_path / "checkpoint-100" / ADAPTER, 0.9)
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-20"


def test_a_step_is_read_from_the_name() -> None:
    assert step_of(Path("a/checkpoint-120")) == 120
    assert step_of(Path("checkpoint-120-merged")) == -1
    assert step_of(Path("checkpoint")) == -1


@given(st.binary(max_size=40))
def test_no_bytes_make_the_check_of_weights_fail_itself(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    for content in (data, struct.pack("<Q", len(data)) + data):
        path.write_bytes(content)
        assert not is_whole_safetensors(path)


@pytest.mark.parametrize(
    "header", [[], {"a": 1}, {"a": {}}, {"a": {"data_offsets": []}}, {"a": {"data_offsets": "xy"}}]
)
def test_a_header_of_another_shape_is_not_whole(tmp_path: Path, header: object) -> None:
    encoded = json.dumps(header).encode()
    (tmp_path / "f").write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    assert not is_whole_safetensors(tmp_path / "f")


@given(st.integers(min_value=0), st.integers(0, 255))
def test_no_damage_to_the_state_makes_the_check_fail_itself(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("hypothesis")
    path = make_checkpoint(folder, 1) / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data)
    assert is_whole(path.parent) in (True, False)
