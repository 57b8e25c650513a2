import shutil
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.models.resolve import (
    check_model_name,
    check_remote_code,
    code_hash,
    refuse_remote_code,
    resolve_model,
)


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_folder_is_taken_as_an_absolute_path(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert resolve_model("model") == model.resolve()


def test_a_folder_without_tokenizer_is_refused(model: Path) -> None:
    for path in [*model.glob("tokenizer*"), *model.glob("vocab*")]:
        path.unlink()
    with pytest.raises(MedllmError, match="has no tokenizer"):
        resolve_model(str(model))


@pytest.mark.parametrize(("pattern", "what"), [("config.json", "config.json"), ("*.safetensors", "weights")])
def test_a_folder_that_lacks_a_part_is_refused(model: Path, pattern: str, what: str) -> None:
    for path in model.glob(pattern):
        path.unlink()
    with pytest.raises(MedllmError, match=f"has no {what}"):
        resolve_model(str(model))


def test_weights_that_no_merge_could_be_proven_with_are_refused(model: Path) -> None:
    config = read_json(model / "config.json")
    write_json(model / "config.json", {**config, "quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(MedllmError, match=r"is quantised by its config\.json: take the unquantised model"):
        resolve_model(str(model))
    write_json(model / "config.json", config)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(MedllmError, match=r"has no weights \(\*\.safetensors\)"):
        resolve_model(str(model))


@pytest.mark.parametrize("name", ["/no/such/model", "./nowhere", "a/b/c", "nowhere"])
def test_a_missing_path_does_not_fall_through_to_a_hub(name: str) -> None:
    with pytest.raises(MedllmError, match="neither a folder on this machine"):
        check_model_name(name)


def test_a_hub_id_is_left_for_the_hub() -> None:
    check_model_name("Qwen/Qwen3-14B")


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(name: str, **options: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(MedllmError, match="Qwen/Qwen3-14B could not be downloaded from huggingface: no network"):
        resolve_model("Qwen/Qwen3-14B", "huggingface")


def test_the_tiny_model_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    folder = resolve_model("tiny-random-qwen2")
    made = (folder / "config.json").stat().st_mtime_ns
    assert resolve_model("tiny-random-qwen2") == folder == tmp_path / "models" / "tiny-random-qwen2"
    assert (folder / "config.json").stat().st_mtime_ns == made


def test_code_that_comes_with_a_model_is_refused(model: Path) -> None:
    refuse_remote_code(model)
    (model / "modeling_x.py").write_text("", encoding="utf-8")
    with pytest.raises(MedllmError, match=r"modeling_x\.py is code that comes with the model"):
        refuse_remote_code(model)
    (model / "modeling_x.py").unlink()
    write_json(model / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x.Y"}})
    with pytest.raises(MedllmError, match="names code of its own"):
        refuse_remote_code(model)


def test_code_is_allowed_by_its_hash_only(model: Path) -> None:
    check_remote_code(model, None)
    check_remote_code(model, "xxh3:" + "0" * 32)
    (model / "deeper").mkdir()
    (model / "deeper" / "modeling_x.py").write_text("a = 1", encoding="utf-8")
    write_json(model / "config.json", {"auto_map": {"AutoModel": "deeper.modeling_x.Y"}})
    first = code_hash(model)
    with pytest.raises(MedllmError, match=f"and remote_code: {first}"):
        check_remote_code(model, None)
    check_remote_code(model, first)
    write_json(model / "config.json", {"auto_map": {"AutoModel": "elsewhere--modeling_x.Y"}})
    with pytest.raises(MedllmError, match=f"its hash is {code_hash(model)}, remote_code of the recipe says {first}"):
        check_remote_code(model, first)


def test_code_of_a_folder_that_is_not_there_is_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="does not exist"):
        check_remote_code(tmp_path / "away", None)
