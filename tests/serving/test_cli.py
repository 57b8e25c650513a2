import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from medllm_ops.compute.ports import LOOPBACK, free_port
from medllm_ops.errors import MedllmError
from medllm_ops.files import write_json
from medllm_ops.serving import cli, endpoint, registry
from medllm_ops.serving.registry import Service, chat_name, find_service, list_services, start_service

FakeSwift = Callable[[str], None]
Processes = Callable[[], list[psutil.Process]]
WaitUntil = Callable[[Callable[[], object]], None]
Invoke = Callable[..., Result]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, fake_swift: FakeSwift) -> Iterator[None]:
    """Wait less, and give this process its signal handlers back."""
    monkeypatch.setattr(registry, "end_job", partial(registry.end_job, grace_seconds=0.3))
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.02)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call ``medllm-ops serve`` in this process; an error that the user would read is raised."""

    monkeypatch.setattr(cli, "console", Console(width=400, highlight=False))

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(cli.serve_app, [str(argument) for argument in arguments])
        if isinstance(result.exception, MedllmError):
            raise result.exception
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


@pytest.fixture
def program(tmp_path: Path, serving_processes: Processes) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``medllm-ops serve`` as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "medllm_ops.cli", "serve", *map(str, arguments)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, **streams))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def serve_alone(invoke: Invoke, model: Path, name: str = "demo") -> Service:
    invoke("start", model, "--name", name, "--no-chat")
    service = find_service(name)
    assert service is not None
    return service


def test_what_was_started_is_listed_and_stopped(invoke: Invoke, model_dir: Path, serving_processes: Processes) -> None:
    assert invoke("list").stdout == "nothing is served\n"
    started = invoke("start", model_dir, "--name", "demo", "--no-chat")
    service = find_service("demo")
    assert service is not None
    assert f"endpoint  {service.url}  model {service.model_name}\n" in started.stdout
    assert f"API key   in {service.file}\n" in started.stdout
    assert "`medllm-ops serve stop demo` ends it" in started.stdout
    assert service.secret not in started.output
    listed = invoke("list").stdout
    for cell in ("demo", "endpoint", service.url, service.model):
        assert f" {cell} " in listed
    assert service.secret not in listed
    assert invoke("stop", "demo").stdout == "stopped endpoint demo\n"
    assert serving_processes() == []
    assert invoke("list").stdout == "nothing is served\n"


def test_a_proxy_finds_the_endpoint_at_the_port_that_was_given(invoke: Invoke, model_dir: Path) -> None:
    port = free_port()
    invoke("start", model_dir, "--name", "demo", "--no-chat", "--endpoint-port", port)
    assert [service.port for service in list_services()] == [port]


def test_the_folder_gives_the_name(invoke: Invoke, model_dir: Path) -> None:
    invoke("start", model_dir, "--no-chat")
    assert [service.name for service in list_services()] == [model_dir.name]


def test_several_are_stopped_at_once_chat_pages_too(
    invoke: Invoke, model_dir: Path, serving_processes: Processes
) -> None:
    first = serve_alone(invoke, model_dir, "first")
    serve_alone(invoke, model_dir, "second")
    page = Service(chat_name("first"), "chat", LOOPBACK, free_port(), first.model_name, first.model, "secret")
    start_service(page, (sys.executable, "-c", "import time; time.sleep(600)"), {})
    assert invoke("stop", "--all").stdout.splitlines() == [
        "stopped chat first@chat",
        "stopped endpoint first",
        "stopped endpoint second",
    ]
    assert serving_processes() == []
    assert invoke("stop", "--all").stdout == "nothing is served\n"


def test_stopping_what_is_not_there_names_what_is(invoke: Invoke, model_dir: Path) -> None:
    with pytest.raises(MedllmError, match="nothing called other is served; there is nothing"):
        invoke("stop", "other")
    serve_alone(invoke, model_dir)
    with pytest.raises(MedllmError, match="nothing called other is served; there is demo"):
        invoke("stop", "other")
    assert len(list_services()) == 1


@pytest.mark.parametrize("arguments", [(), ("demo", "--all")])
def test_stop_wants_a_name_or_all(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    with pytest.raises(MedllmError, match="give either a name or --all"):
        invoke("stop", *arguments)


def test_a_second_of_the_name_is_refused_and_the_first_goes_on(invoke: Invoke, model_dir: Path) -> None:
    service = serve_alone(invoke, model_dir)
    with pytest.raises(MedllmError, match="endpoint demo already runs"):
        invoke("start", model_dir, "--name", "demo", "--no-chat")
    assert list_services() == [service]


def test_a_folder_that_is_not_there_is_named(invoke: Invoke, tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"model folder .*missing does not exist"):
        invoke("start", tmp_path / "missing", "--no-chat")
    assert list_services() == []


@pytest.mark.parametrize(
    ("host", "taken", "words"),
    [("0.0.0.0", False, "a chat page on 0.0.0.0 .* needs at least 8 characters"), (LOOPBACK, True, r"\(pid \d+\)")],
)
def test_a_page_that_may_not_be_is_refused_before_a_model_is_loaded(
    invoke: Invoke,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    serving_processes: Processes,
    host: str,
    taken: bool,
    words: str,
) -> None:
    def start(request: object) -> Service:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(cli, "start_endpoint", start)
    monkeypatch.setenv("MEDLLM_CHAT_PASSWORD", "short")
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1] if taken else free_port()
        with pytest.raises(MedllmError, match=words):
            invoke("start", model_dir, "--host", host, "--port", port)
    assert serving_processes() == []


def test_an_endpoint_does_not_stay_without_its_page(
    invoke: Invoke, model_dir: Path, monkeypatch: pytest.MonkeyPatch, serving_processes: Processes
) -> None:
    def fail(*_: object) -> Service:
        assert len(list_services()) == 1
        raise MedllmError("the chat page did not answer")

    monkeypatch.setattr(cli, "start_chat", fail)
    with pytest.raises(MedllmError, match="the chat page did not answer"):
        invoke("start", model_dir, "--port", free_port())
    assert serving_processes() == []
    assert list_services() == []


def make_run(home: Path) -> Path:
    """What ``serve latest`` needs of a finished run."""
    run = home / "runs" / "tiny-run"
    write_json(run / "run.json", {"run": "tiny-run", "started": "2026-11-24T10:00:00+0000", "parameters": {}})
    recipe = Path(__file__).resolve().parents[2] / "include" / "swift_configs" / "tiny.yaml"
    (run / "recipe.yaml").write_bytes(recipe.read_bytes())
    model = run / "merged" / "self_cognition"
    model.mkdir(parents=True)
    (home / "runs" / "latest").symlink_to(run.name)
    return model


def test_the_latest_is_the_last_finished_runs_model_as_it_was_trained(
    invoke: Invoke, serving_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_run(serving_home)
    pages: list[Any] = []
    page = Service("tiny-run@chat", "chat", LOOPBACK, 9101, "", "", "the password")
    monkeypatch.setattr(cli, "start_chat", lambda *arguments: pages.append(arguments) or page)
    port = free_port()
    output = invoke("latest", "--no-foreground", "--port", port).stdout
    (service,) = list_services()
    assert (service.name, service.model) == ("tiny-run", str(model))
    assert pages == [(service, LOOPBACK, port)]
    assert "chat      http://127.0.0.1:9101  user medllm  password the password\n" in output
    arguments = json.loads((service.directory / "arguments.json").read_text(encoding="utf-8"))
    assert arguments[arguments.index("--template") + 1] == "qwen2_5"


def test_without_a_finished_run_there_is_one_sentence(program: Callable[..., subprocess.Popen[str]]) -> None:
    process = program("latest")
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == ""
    assert errors.startswith("error: no run has finished yet: ")
    assert errors.endswith("runs/latest does not exist; `make run` makes one\n")
    assert len(errors.splitlines()) == 1


def test_a_run_whose_model_is_gone_is_named(invoke: Invoke, serving_home: Path) -> None:
    make_run(serving_home).rmdir()
    with pytest.raises(MedllmError, match=r"model folder .*self_cognition does not exist"):
        invoke("latest", "--port", free_port())


@pytest.mark.parametrize("number", SIGNALS)
def test_in_the_foreground_a_signal_ends_everything(
    program: Callable[..., subprocess.Popen[str]],
    model_dir: Path,
    serving_processes: Processes,
    number: signal.Signals,
) -> None:
    process = program("start", model_dir, "--no-chat", "--foreground")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line == "Ctrl-C ends it\n" for line in lines)
    assert len(list_services()) == 1
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, "ended\n", "")
    assert serving_processes() == []
    assert list_services() == []


def test_an_interrupt_while_it_starts_leaves_nothing(
    program: Callable[..., subprocess.Popen[str]],
    model_dir: Path,
    fake_swift: FakeSwift,
    serving_processes: Processes,
    wait_until: WaitUntil,
) -> None:
    fake_swift("silent")
    process = program("start", model_dir, "--no-chat")
    wait_until(lambda: any("medllm_ops.serving.deploy" in one.cmdline() for one in serving_processes()))
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == cli.EXIT_INTERRUPTED
    assert serving_processes() == []
    assert list_services() == []


def test_in_the_foreground_an_endpoint_that_ends_by_itself_is_told(
    program: Callable[..., subprocess.Popen[str]], model_dir: Path, serving_processes: Processes
) -> None:
    process = program("start", model_dir, "--no-chat", "--foreground")
    assert process.stdout is not None
    assert any(line == "Ctrl-C ends it\n" for line in iter(process.stdout.readline, ""))
    endpoint_process = next(one for one in serving_processes() if "medllm_ops.serving.deploy" in one.cmdline())
    endpoint_process.kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("error: endpoint model ended by itself; its log ended:\n")
    assert serving_processes() == []
