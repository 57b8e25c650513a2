import importlib.util
import logging

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.swift.arguments import check_names, known_arguments


def test_unknown_arguments_are_named_with_what_they_are_called_now(asked_once: None) -> None:
    check_names("sft", ["learning_rate", "use_liger_kernel"])
    with pytest.raises(MedllmError, match=r"sft_type \(now tuner_type.*lerning_rate \(did you mean learning_rate"):
        check_names("sft", ["sft_type", "lerning_rate"])
    with pytest.raises(MedllmError, match=r"zzzzzz \(nothing is called like it"):
        check_names("export", ["zzzzzz"])


def test_each_command_has_arguments_of_its_own(asked_once: None) -> None:
    known = known_arguments()
    assert set(known) == {"pt", "sft", "rlhf", "export", "deploy", "infer"}
    assert "beta" in known["rlhf"]
    assert "beta" not in known["sft"]
    assert "merge_lora" in known["export"]


def test_without_ms_swift_the_log_says_that_nothing_was_checked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "swift" else find_spec(name))
    with caplog.at_level(logging.WARNING):
        check_names("sft", ["sft_type", "no_such_name"])
    assert "the names of no_such_name, sft_type were not checked" in caplog.text
