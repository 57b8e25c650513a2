"""ms-swift is asked once a version, for everything at once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json, write_json
from medllm_ops.swift.arguments import known_arguments
from medllm_ops.swift.families import registry
from medllm_ops.swift.installed import installed


@pytest.fixture
def elsewhere(swift_home: Path, asked_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another home, where what ms-swift knows is already written down: almost nothing."""
    installed()
    (file,) = (swift_home / "cache").glob("swift_*.json")
    write_json(tmp_path / "cache" / file.name, {**read_json(file), "arguments": {"sft": {"only_this": {}}}})
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path))
    installed.cache_clear()
    yield tmp_path
    installed.cache_clear()


def test_arguments_and_models_are_read_together(asked_once: None) -> None:
    assert set(known_arguments()) == {"pt", "sft", "rlhf", "export", "deploy", "infer"}
    assert known_arguments()["sft"]["learning_rate"]["type"] == "float"
    assert known_arguments()["sft"]["quant_bits"]["choices"][:5] == [1, 2, 3, 4, 8]
    assert "qwen3" in registry()["types"]
    assert "Qwen3ForCausalLM" in registry()["classes"]


def test_they_are_read_once_a_version(elsewhere: Path) -> None:
    assert known_arguments() == {"sft": {"only_this": {}}}


def test_another_version_is_asked_anew(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "ms-swift" else version(name))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(MedllmError, match=r"ms-swift 9\.9 cannot be imported"):
        installed()


def test_without_ms_swift_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, asked_once: None) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    installed.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MedllmError, match="install the extra `train`"):
        installed()
