"""Presidio is used for two kinds of number, is imported when one turns up, and never asks the network."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from medllm_ops.curation.scrub import ScrubSettings, scrub_text, with_presidio
from medllm_ops.curation.scrub.online import _top_level_domains
from medllm_ops.errors import MedllmError

Scrubbed = Callable[..., str]

ORDINARY = """
import sys
from medllm_ops.curation.scrub import ScrubSettings, scrub_text
text = "联系人：王小明，电话13800138000，a@example.com, 010-65123456, tel. +44 20 7946 0958, 4111 1111 1111 1111, 5 mg"
assert scrub_text(text, ScrubSettings())[0].count("⟨") == 6
print(*sorted({"presidio_analyzer", "spacy", "torch", "pandas", "daft"} & set(sys.modules)))
"""


def test_ordinary_text_imports_neither_presidio_nor_spacy() -> None:
    result = subprocess.run([sys.executable, "-c", ORDINARY], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_numbers_without_a_label(scrubbed: Scrubbed) -> None:
    assert scrubbed("Pay DE89 3704 0044 0532 0130 00 in 2 days") == "Pay ⟨ACCOUNT⟩ in 2 days"
    assert scrubbed("汇款到DE89370400440532013000即可") == "汇款到⟨ACCOUNT⟩即可"
    assert scrubbed("on file: 467-21-1234.") == "on file: ⟨ID⟩."
    for text in ("DE89 3704 0044 0532 0143 00", "000-12-3456", "900-12-3456", "1467-21-1234", "grant 467-21-1234"):
        assert scrubbed(text) == text
    assert scrubbed("on file: 467-21-1234.", presidio=False) == "on file: 467-21-1234."


def test_nothing_asks_the_network(monkeypatch: pytest.MonkeyPatch, scrubbed: Scrubbed) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    _top_level_domains.cache_clear()
    with_presidio._recognisers.cache_clear()
    text = "a@example.com 467-21-1234 GB82 WEST 1234 5698 7654 32 +49 30 23125 123"
    assert scrubbed(text) == "⟨EMAIL⟩ ⟨ID⟩ ⟨ACCOUNT⟩ ⟨PHONE⟩"


def test_without_presidio_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with_presidio._recognisers.cache_clear()
    monkeypatch.setitem(sys.modules, "presidio_analyzer.predefined_recognizers", None)
    with pytest.raises(MedllmError, match=r"install presidio-analyzer, or set presidio: false"):
        scrub_text("on file: 467-21-1234.", ScrubSettings())
