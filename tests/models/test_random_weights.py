import shutil
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.models.resolve import RANDOM, check_model_name, resolve_model


@pytest.fixture
def shape(tiny_model: Path, tmp_path: Path) -> Path:
    """A configuration and a tokenizer, and no weights."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "shape"))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    return folder


def test_a_shape_gets_random_weights_once(shape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file

    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    folder = resolve_model(f"{RANDOM}{shape}")
    weights = load_file(folder / "model.safetensors")
    assert {str(each.dtype) for each in weights.values()} == {"float32"}
    assert any(float(each.std()) > 0 for each in weights.values())
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(f"{RANDOM}{shape}") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    config = read_json(shape / "config.json")
    write_json(shape / "config.json", {**config, "num_hidden_layers": 1, "layer_types": ["full_attention"]})
    other = resolve_model(f"{RANDOM}{shape}")
    assert other != folder
    assert len(load_file(other / "model.safetensors")) < len(weights)


def test_a_shape_that_brings_code_is_refused(shape: Path) -> None:
    (shape / "modeling_x.py").write_text("", encoding="utf-8")
    with pytest.raises(MedllmError, match="code that comes with the model"):
        resolve_model(f"{RANDOM}{shape}")


def test_a_shape_is_a_folder_a_model_made_here_or_a_hub_id() -> None:
    for name in ("random:Qwen/Qwen3-0.6B", "random:tiny-random-qwen2", "random:/"):
        check_model_name(name)
    with pytest.raises(MedllmError, match="neither a folder"):
        check_model_name("random:/no/such/model")
