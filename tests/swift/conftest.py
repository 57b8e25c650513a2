"""A LoRA adapter for the tiny model, what PEFT makes of the two, and a place where ms-swift was asked before."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.swift.installed import installed


def _make_adapter(folder: Path, model_folder: Path, **settings: Any) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    values = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), LoraConfig(**values))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    return folder


def _merge_with_peft(folder: Path, model_folder: Path, adapter: Path, dtype: str, shard: str) -> Path:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype))
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.save_pretrained(folder, max_shard_size=shard)
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rank-4 adapter of all linear layers with a random B; never write into it."""
    return _make_adapter(tmp_path_factory.mktemp("adapter") / "plain", tiny_model)


@pytest.fixture(scope="session")
def merged(tiny_model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true merge of the two in several shards; never write into it."""
    return _merge_with_peft(tmp_path_factory.mktemp("merged") / "plain", tiny_model, adapter, "float32", "200kB")


@pytest.fixture
def merged_copy(merged: Path, tmp_path: Path) -> Path:
    """A copy of the true merge to be damaged."""
    return Path(shutil.copytree(merged, tmp_path / "merged"))


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Make an adapter of a model with other LoRA settings."""
    return lambda model_folder, **settings: _make_adapter(tmp_path / "adapter", model_folder, **settings)


@pytest.fixture
def merge_with_peft(tmp_path: Path) -> Callable[..., Path]:
    """Merge an adapter into a model."""

    def do(model_folder: Path, adapter: Path, dtype: str = "float32", shard: str = "5GB") -> Path:
        return _merge_with_peft(tmp_path / "merged", model_folder, adapter, dtype, shard)

    return do


@pytest.fixture
def edit_tensors() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Change the tensors of one safetensors file in place."""

    def do(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
        from safetensors.torch import load_file, save_file

        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return do


@pytest.fixture(scope="session")
def swift_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which ms-swift has told its names, once it was asked for them."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def asked_once(swift_home: Path) -> Iterator[None]:
    """ms-swift tells its names once for all the modules that use this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLLM_HOME", str(swift_home))
        installed.cache_clear()
        yield
        installed.cache_clear()
