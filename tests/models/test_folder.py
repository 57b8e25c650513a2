import shutil
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.files import read_json, write_json
from medllm_ops.models.families import find_member
from medllm_ops.models.folder import load_model, most_tokens
from medllm_ops.models.twins import make_twin


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        # Qwen-14B-Chat: what it takes, and what it was trained with.
        ({"seq_length": 2048, "max_position_embeddings": 8192}, 8192),
        ({"seq_length": 32768}, 32768),
        ({"model_max_length": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 128}, "vision_config": {"max_position_embeddings": 9}}, 128),
        ({"text_config": None}, None),
        ({}, None),
    ],
)
def test_the_most_tokens_of_a_row(config: dict[str, Any], tokens: int | None) -> None:
    assert most_tokens(config) == tokens


@pytest.mark.parametrize("model", ["qwen3_vl", "qwen3"])
def test_a_model_is_the_class_that_its_folder_names_with_its_own_weights(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    # It would ask for packages that weights alone do not need.
    monkeypatch.setattr("medllm_ops.models.twins._make_processor", lambda *arguments: None)
    member = find_member(model)
    loaded = load_model(make_twin(member, tmp_path / "twin"), "auto")
    assert type(loaded).__name__ == member.architecture
    again = load_model(tmp_path / "twin", torch.bfloat16)
    assert again.dtype is torch.bfloat16
    for name, weight in loaded.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight.bfloat16()), name


def test_a_class_that_gives_no_logits_is_not_taken_at_its_word(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    write_json(folder / "config.json", read_json(folder / "config.json") | {"architectures": ["Qwen2Model"]})
    assert type(load_model(folder, "auto")).__name__ == "Qwen2ForCausalLM"
