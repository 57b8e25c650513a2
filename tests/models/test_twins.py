import subprocess
import sys
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.models.families import find_member
from medllm_ops.models.twins import make_twin


@pytest.mark.parametrize("model", ["01ai/Yi-Coder-9B-Chat", "ZhipuAI/GLM-5.3"])
def test_a_twin_has_the_class_of_its_model_and_its_own_size(model: str, tmp_path: Path) -> None:
    member = find_member(model)
    folder = make_twin(member, tmp_path / "twin")
    config = read_json(folder / "config.json")
    assert config["architectures"] == [member.architecture]
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    assert (folder / "model.safetensors").stat().st_size < 10_000_000
    assert (folder / "tokenizer.json").is_file()


def test_a_class_that_transformers_lacks_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"transformers .* has no QWenLMHeadModel"):
        make_twin(find_member("Qwen/Qwen-14B-Chat"), tmp_path / "twin")
    assert not (tmp_path / "twin").exists()


def test_it_is_made_by_a_process_of_its_own(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "medllm_ops.models.twins", "no-such-model", str(tmp_path / "twin")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "in none of the families" in done.stderr
