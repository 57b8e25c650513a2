import contextlib
import logging
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.ports import free_port
from medllm_ops.compute.processes import marked_processes
from medllm_ops.errors import MedllmError
from medllm_ops.serving import registry
from medllm_ops.serving.registry import (
    Service,
    chat_name,
    check_alive,
    find_service,
    list_services,
    service_directory,
    start_service,
    stop_service,
)

SECRET = "a-key-that-nobody-may-see"
Processes = Callable[[], list[psutil.Process]]
WaitUntil = Callable[[Callable[[], object]], None]

LISTENER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    time.sleep(600)
"""
# It and its child, in a session of its own, ignore SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 1:
    subprocess.Popen([sys.executable, __file__], start_new_session=True)
else:
    open("ready", "w").close()
time.sleep(600)
"""
DIES = "import sys; print('first line', flush=True); sys.exit('the last line')"


def service(name: str = "demo", kind: Any = "endpoint", host: str = "127.0.0.1", port: int = 0) -> Service:
    return Service(name, kind, host, port or free_port(), f"{name}-1a2b3c", "/models/demo", SECRET)


def start(one: Service, code: str = LISTENER) -> Job:
    return start_service(one, (sys.executable, "-c", code, str(one.port)), {})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "end_job", partial(registry.end_job, grace_seconds=0.3))


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_a_service_is_found_by_name_and_ended_with_every_process(
    serving_home: Path, serving_processes: Processes, wait_until: WaitUntil
) -> None:
    one, other = service(), service("another.one")
    start(one)
    start(other)
    wait_until(lambda: one.listening() and other.listening())
    assert find_service("demo") == one
    assert list_services() == [other, one]
    assert stop_service("demo") == [one]
    assert list(marked_processes(one.job_id)) == []
    assert not one.directory.exists()
    assert find_service("demo") is None
    assert list_services() == [other]
    assert other.listening()
    assert stop_service("another.one") == [other]
    assert serving_processes() == []
    assert list_services() == []


def test_stopping_what_nobody_started_ends_nothing(serving_home: Path) -> None:
    assert stop_service("demo") == []


def test_an_address_says_how_this_machine_reaches_it() -> None:
    assert service(port=9000).url == "http://127.0.0.1:9000/v1"
    assert service(kind="chat", host="0.0.0.0", port=9101).url == "http://127.0.0.1:9101"


def test_two_services_of_one_name_are_refused(serving_processes: Processes, wait_until: WaitUntil) -> None:
    first = service()
    start(first)
    wait_until(first.listening)
    before = serving_processes()
    with pytest.raises(MedllmError, match=f"endpoint demo already runs at {first.url}; stop it, or take another name"):
        start(service())
    assert find_service("demo") == first
    assert serving_processes() == before


def test_of_four_started_at_the_same_time_one_wins() -> None:
    refused: list[str] = []
    before = set(psutil.Process().children())  # such as multiprocessing's tracker, of another test

    def try_to_start() -> None:
        try:
            start(service())
        except MedllmError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=try_to_start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(list_services()) == 1
    started = set(psutil.Process().children()) - before
    supervisors = [child for child in started if child.status() != psutil.STATUS_ZOMBIE]
    assert len(supervisors) == 1


def test_a_taken_port_is_refused_and_its_holder_named(stranger: int, serving_processes: Processes) -> None:
    with pytest.raises(MedllmError, match=rf"port {stranger} on 127.0.0.1 .*\(pid {os.getpid()}\)"):
        start(service(port=stranger))
    assert find_service("demo") is None
    assert serving_processes() == []


def test_secrets_are_for_the_owner_alone_and_on_no_command_line(
    serving_processes: Processes, wait_until: WaitUntil
) -> None:
    one = service()
    previous = os.umask(0)
    try:
        start_service(one, (sys.executable, "-c", LISTENER, str(one.port)), {}, {"arguments.json": [SECRET]})
    finally:
        os.umask(previous)
    wait_until(one.listening)
    assert stat.S_IMODE(one.directory.stat().st_mode) == 0o700
    for name in ("service.json", "arguments.json"):
        path = one.directory / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SECRET in path.read_text()
    assert len(serving_processes()) == 2
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert SECRET not in " ".join(process.cmdline())
    for process in serving_processes():
        assert SECRET not in " ".join(process.environ().values())


def test_what_was_killed_is_cleared_by_list_and_told(
    serving_home: Path, serving_processes: Processes, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = service(), service("other")
    start(one)
    start(other)
    wait_until(lambda: one.listening() and other.listening())
    for process in marked_processes(one.job_id):
        process.kill()
    wait_until(lambda: not one.running())
    with caplog.at_level(logging.WARNING):
        assert list_services() == [other]
    assert "endpoint demo had ended by itself: it was killed together with its supervisor" in caplog.text
    assert not one.directory.exists()
    # The name is free again.
    start(service())
    assert len(list_services()) == 2


def test_what_ended_by_itself_says_how(wait_until: WaitUntil, caplog: pytest.LogCaptureFixture) -> None:
    one = service()
    job = start(one, DIES)
    wait_until(lambda: job.result() and not one.running())
    with pytest.raises(JobError, match=r"(?s)first line\nthe last line"):
        check_alive(job)
    assert one.log_tail(1) == "the last line"
    with caplog.at_level(logging.WARNING):
        assert list_services() == []
    assert "exit code 1: an exception; its log ended: the last line" in caplog.text


def test_a_supervisor_alone_killed_leaves_a_service_that_can_be_stopped(
    serving_processes: Processes, wait_until: WaitUntil
) -> None:
    one = service()
    job = start(one)
    wait_until(one.listening)
    supervisor = job.supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.alive())
    assert list_services() == [one]
    stop_service("demo")
    assert serving_processes() == []


def test_a_process_that_will_not_end_is_ended_with_its_children(
    tmp_path: Path, serving_processes: Processes, wait_until: WaitUntil
) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    one = service()
    start_service(one, (sys.executable, str(script), "parent"), {})
    wait_until((one.directory / "job" / "ready").exists)
    assert len(serving_processes()) == 3
    stop_service("demo")
    assert serving_processes() == []


def test_an_endpoint_takes_its_chat_page_along(serving_processes: Processes) -> None:
    one, chat = service(), service(chat_name("demo"), "chat")
    start(one)
    start(chat)
    assert stop_service("demo") == [chat, one]
    assert serving_processes() == []


def test_a_chat_page_ends_alone(wait_until: WaitUntil) -> None:
    one, chat = service(), service(chat_name("demo"), "chat")
    start(one)
    start(chat)
    assert stop_service(chat.name) == [chat]
    assert list_services() == [one]


def test_the_chat_page_of_an_endpoint_is_not_taken_for_another_endpoint(wait_until: WaitUntil) -> None:
    short, long = service("qwen-14b"), service("qwen-14b-chat")
    start(long)
    page = service(chat_name("qwen-14b"), "chat")
    start(short)
    start(page)
    assert stop_service("qwen-14b") == [page, short]
    assert list_services() == [long]


def test_an_endpoint_with_the_name_of_a_chat_page_is_refused(serving_processes: Processes) -> None:
    with pytest.raises(MedllmError, match=r"'demo@chat': the ending @chat is for chat pages; leave it out"):
        start(service(chat_name("demo")))
    assert serving_processes() == []


def test_the_longest_name_is_served_with_its_page_and_stopped(serving_processes: Processes) -> None:
    one, page = service("a" * 120), service(chat_name("a" * 120), "chat")
    start(one)
    start(page)
    assert stop_service(one.name) == [page, one]
    assert serving_processes() == []


def test_a_broken_state_file_does_not_hide_the_others(serving_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = serving_home / "serving" / "broken" / "service.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    one = service()
    start(one)
    with caplog.at_level(logging.WARNING):
        assert list_services() == [one]
    assert "broken/service.json is not the state of a service" in caplog.text
    path.unlink()


def test_what_cannot_be_started_leaves_nothing(serving_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: Job) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medllm_ops.serving.registry.start_supervisor", fail)
    with pytest.raises(OSError, match="No space left"):
        start(service())
    assert find_service("demo") is None
    assert not service_directory("demo").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "-x", "名", "a" * 121, "a\n", "@chat", "a@chat@chat"])
def test_a_name_that_is_no_folder_name_is_refused(serving_home: Path, name: str) -> None:
    with pytest.raises(MedllmError, match=r"service name .*letters, digits"):
        stop_service(name)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "demo"}', '{"colour": 1}'])
def test_a_state_file_of_another_version_is_named(serving_home: Path, content: str) -> None:
    path = serving_home / "serving" / "demo" / "service.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(MedllmError, match=r"service\.json is not the state of a service .*remove its folder"):
        find_service("demo")
    path.unlink()
