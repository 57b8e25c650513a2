import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from medllm_ops.compute.job import JobError
from medllm_ops.compute.ports import free_port
from medllm_ops.errors import MedllmError
from medllm_ops.serving.chat import PASSWORD_VARIABLE, chat_password, check_chat, password_file, start_chat
from medllm_ops.serving.registry import Service, list_services

ENDPOINT = Service("demo", "endpoint", "127.0.0.1", 9000, "demo-1a2b3c", "/models/demo", "key")


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_a_password_is_made_once_for_the_owner_alone() -> None:
    password = chat_password()
    assert len(password) >= 12
    assert chat_password() == password
    assert password_file().read_text() == password
    assert stat.S_IMODE(password_file().stat().st_mode) == 0o600


def test_two_that_start_at_once_have_one_password(monkeypatch: pytest.MonkeyPatch) -> None:
    make, told = secrets.token_urlsafe, []

    def another_is_faster(length: int) -> str:
        monkeypatch.setattr(secrets, "token_urlsafe", make)
        told.append(chat_password())
        return make(length)

    monkeypatch.setattr(secrets, "token_urlsafe", another_is_faster)
    assert [chat_password()] == told
    assert password_file().read_text() == told[0]
    assert list(password_file().parent.iterdir()) == [password_file()]


def test_a_password_file_that_others_could_read_is_closed_to_them() -> None:
    chat_password()
    password_file().chmod(0o644)
    chat_password()
    assert stat.S_IMODE(password_file().stat().st_mode) == 0o600


def test_a_password_of_the_users_own_is_taken_and_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "correct horse")
    assert chat_password() == "correct horse"
    assert not password_file().exists()


def test_two_homes_have_two_passwords(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = chat_password()
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "other"))
    assert chat_password() != first


def test_a_page_without_a_password_is_refused(serving_processes: Callable[[], list[psutil.Process]]) -> None:
    chat_password()
    password_file().write_text("\n")
    with pytest.raises(MedllmError, match=r"chat_password is empty: .*remove the file"):
        start_chat(ENDPOINT, port=free_port())
    assert serving_processes() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_password_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, " " * 8)
    with pytest.raises(MedllmError, match=f"{PASSWORD_VARIABLE} holds nothing but blanks"):
        check_chat(host, free_port())


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::"])
def test_a_page_for_other_machines_needs_a_good_password(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "1234567")
    with pytest.raises(MedllmError, match=rf"a chat page on {host} .*{PASSWORD_VARIABLE} needs at least 8 characters"):
        start_chat(ENDPOINT, host, free_port())
    assert list_services() == []


def test_a_page_for_other_machines_is_allowed_with_a_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "12345678")
    assert check_chat("0.0.0.0", free_port()) == "12345678"
    monkeypatch.delenv(PASSWORD_VARIABLE)
    assert check_chat("0.0.0.0", free_port()) == chat_password()


def test_a_page_for_this_machine_takes_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "1234567")
    assert check_chat("127.0.0.1", free_port()) == "1234567"


def test_a_taken_port_is_refused_with_its_holder(stranger: int) -> None:
    with pytest.raises(MedllmError, match=rf"port {stranger} on 127.0.0.1 .*: held .*\(pid {os.getpid()}\)"):
        start_chat(ENDPOINT, port=stranger)
    assert list_services() == []


def test_an_address_that_this_machine_has_not_is_named() -> None:
    with pytest.raises(MedllmError, match=r"on 203\.0\.113\.1 cannot be used: Cannot assign requested address"):
        check_chat("203.0.113.1", free_port())


def test_a_page_whose_process_dies_leaves_its_last_words_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving_processes: Callable[[], list[psutil.Process]]
) -> None:
    (tmp_path / "gradio.py").write_text("raise ImportError('this gradio is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(JobError, match=r"(?s)demo@chat.*this gradio is broken"):
        start_chat(ENDPOINT, port=free_port())
    assert serving_processes() == []
    assert list_services() == []
