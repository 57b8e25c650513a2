from pathlib import Path

import pytest

from medllm_ops.home import home, include


def test_state_lies_in_var_or_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDLLM_HOME", raising=False)
    assert home() == tmp_path / "var"
    monkeypatch.setenv("MEDLLM_HOME", "")
    assert home() == tmp_path / "var"
    monkeypatch.setenv("MEDLLM_HOME", "state")
    assert home() == tmp_path / "state"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEDLLM_HOME", "~/elsewhere")
    assert home() == tmp_path / "elsewhere"


def test_recipes_and_data_sets_lie_in_the_checkout_or_where_the_environment_says(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDLLM_INCLUDE", raising=False)
    assert include() == repository / "include"
    monkeypatch.setenv("MEDLLM_INCLUDE", str(tmp_path))
    assert include() == tmp_path
