import contextlib
import http.server
import json
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import psutil
import pytest

from medllm_ops.compute.job import JobError
from medllm_ops.compute.ports import free_port
from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json
from medllm_ops.serving import endpoint, registry
from medllm_ops.serving.endpoint import EndpointRequest, ask, model_names, start_endpoint
from medllm_ops.serving.registry import Service, find_service, list_services, service_directory, stop_service

RequestFor = Callable[..., EndpointRequest]
FakeSwift = Callable[[str], None]
Processes = Callable[[], list[psutil.Process]]
QUESTION = [{"role": "user", "content": "Which vitamin prevents scurvy?"}]


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the models and every POST with the answer that its server has."""

    def do_GET(self) -> None:
        self.answer(self.server.models)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(self.server.reply)  # type: ignore[attr-defined]

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """No line for each request."""


@pytest.fixture
def stranger() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of this process: none of the endpoint's own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "end_job", partial(registry.end_job, grace_seconds=0.3))
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.02)


def assert_nothing_left(processes: Processes, name: str = "demo") -> None:
    assert processes() == []
    assert find_service(name) is None
    assert not service_directory(name).exists()


def test_an_endpoint_answers_as_the_model_just_started(request_for: RequestFor, serving_processes: Processes) -> None:
    request = request_for()
    service = start_endpoint(request)
    assert service.url == f"http://127.0.0.1:{service.port}/v1"
    assert service.model_name.startswith("demo-")
    assert service.model == str(request.model)
    assert model_names(service) == [service.model_name]
    assert find_service("demo") == service
    reply = ask(service, QUESTION)
    assert reply["answer"] == "turn 1: you said 'Which vitamin prevents scurvy?'"
    assert reply["tokens"] == 8
    assert reply["seconds"] > 0
    assert stop_service("demo") == [service]
    assert_nothing_left(serving_processes)


def test_no_two_starts_have_the_same_key_or_model_name(request_for: RequestFor) -> None:
    first = start_endpoint(request_for())
    stop_service("demo")
    second = start_endpoint(request_for())
    assert first.model_name != second.model_name
    assert first.secret != second.secret
    assert len(second.secret) >= 32


def test_swift_is_told_what_to_serve_and_how(request_for: RequestFor) -> None:
    port = free_port()
    request = request_for(system="Be brief.", torch_dtype="float32", port=port)
    service = start_endpoint(request)
    arguments = read_json(service.directory / "arguments.json")
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == {
        "--model": str(request.model),
        "--model_type": "qwen2",
        "--template": "qwen2_5",
        "--system": "Be brief.",
        "--torch_dtype": "float32",
        "--infer_backend": "transformers",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--api_key": service.secret,
        "--served_model_name": service.model_name,
        "--load_args": "false",
        "--verbose": "false",
        "--log_interval": "-1",
    }
    assert service.port == port


def test_what_is_not_known_is_left_to_swift(request_for: RequestFor) -> None:
    service = start_endpoint(replace(request_for(), model_type=None, template=None))
    arguments = read_json(service.directory / "arguments.json")
    assert not {"--model_type", "--template", "--system", "--torch_dtype"} & set(arguments)
    assert "None" not in arguments


def test_the_key_is_in_files_of_the_owner_alone(request_for: RequestFor, serving_processes: Processes) -> None:
    service = start_endpoint(request_for())
    assert stat.S_IMODE(service.directory.stat().st_mode) == 0o700
    holders = [
        path for path in service.directory.rglob("*") if path.is_file() and service.secret.encode() in path.read_bytes()
    ]
    assert sorted(path.name for path in holders) == ["arguments.json", "service.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    assert len(serving_processes()) == 2
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert service.secret not in " ".join(process.cmdline())


def test_an_endpoint_asks_no_hub_and_sleeps_while_it_waits(
    request_for: RequestFor, serving_processes: Processes
) -> None:
    service = start_endpoint(request_for())
    environment = next(one for one in serving_processes() if one.cmdline()[-1].endswith("arguments.json")).environ()
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["MODELSCOPE_CACHE"] == str(service.directory / "cache")


def test_a_second_endpoint_of_the_name_is_refused_and_the_first_goes_on(request_for: RequestFor) -> None:
    service = start_endpoint(request_for())
    with pytest.raises(MedllmError, match="endpoint demo already runs at"):
        start_endpoint(request_for())
    assert list_services() == [service]
    assert ask(service, QUESTION)["answer"]


def test_a_port_that_is_taken_is_refused_with_its_holder(
    request_for: RequestFor, stranger: http.server.ThreadingHTTPServer, serving_processes: Processes
) -> None:
    port = stranger.server_address[1]
    with pytest.raises(MedllmError, match=rf"port {port} on 127.0.0.1 .*\(pid {os.getpid()}\)"):
        start_endpoint(request_for(port=port))
    assert_nothing_left(serving_processes)


def test_a_process_that_dies_leaves_its_last_words_only(
    request_for: RequestFor, fake_swift: FakeSwift, serving_processes: Processes
) -> None:
    fake_swift("dies")
    with pytest.raises(JobError, match=r"(?s)ended at once; .*RuntimeError: the weights are no weights"):
        start_endpoint(request_for())
    assert_nothing_left(serving_processes)


def test_another_model_is_not_believed(
    request_for: RequestFor, fake_swift: FakeSwift, serving_processes: Processes
) -> None:
    fake_swift("another model")
    with pytest.raises(MedllmError, match=r"answers with the models another-model, not with demo-"):
        start_endpoint(request_for())
    assert_nothing_left(serving_processes)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ('{"data": [{"id": "%s"}]}', "the models demo-"),
        ('{"data": [{"id": "llama"}, {"id": "qwen"}]}', "the models llama, qwen"),
        ("<html>It works!</html>", "something else"),
        ('{"data": "none"}', "something else"),
    ],
)
def test_a_process_that_is_not_ours_is_not_believed_whatever_it_answers(
    request_for: RequestFor,
    fake_swift: FakeSwift,
    stranger: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    serving_processes: Processes,
    models: str,
    words: str,
) -> None:
    # It took the port between our look and swift's start: swift would listen on another one, and say nothing.
    monkeypatch.setattr(registry, "check_port_free", lambda host, port: None)
    monkeypatch.setattr(endpoint.secrets, "token_hex", lambda size: "abc")
    stranger.models = models.replace("%s", "demo-abc")  # type: ignore[attr-defined]
    fake_swift("silent")
    with pytest.raises(MedllmError, match=rf"answers with {words}.*\(pid {os.getpid()}\)"):
        start_endpoint(request_for(port=stranger.server_address[1]))
    assert_nothing_left(serving_processes)


def test_a_backend_that_listens_before_its_model_is_loaded_is_waited_for(
    request_for: RequestFor, fake_swift: FakeSwift
) -> None:
    fake_swift("loads")
    service = start_endpoint(request_for())
    assert ask(service, QUESTION)["answer"]


def test_one_that_never_answers_is_given_up(
    request_for: RequestFor, fake_swift: FakeSwift, serving_processes: Processes
) -> None:
    fake_swift("silent")
    with pytest.raises(MedllmError, match=r"(?s)did not answer with model demo-\w+ within 1 s; log .*loading"):
        start_endpoint(request_for(), start_seconds=1)
    assert_nothing_left(serving_processes)


def test_an_interrupt_while_it_starts_leaves_nothing(
    request_for: RequestFor,
    fake_swift: FakeSwift,
    monkeypatch: pytest.MonkeyPatch,
    serving_processes: Processes,
    wait_until: Callable[[Callable[[], object]], None],
) -> None:
    def interrupt(service: Service) -> list[str]:
        # It is started by the trainer, a moment after it was asked for.
        wait_until(serving_processes)
        raise KeyboardInterrupt

    fake_swift("silent")
    monkeypatch.setattr(endpoint, "model_names", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start_endpoint(request_for())
    assert_nothing_left(serving_processes)


def test_one_that_ignores_sigterm_ends_with_its_children(
    request_for: RequestFor, fake_swift: FakeSwift, serving_processes: Processes
) -> None:
    fake_swift("stubborn")
    start_endpoint(request_for())
    assert len(serving_processes()) == 3
    stop_service("demo")
    assert_nothing_left(serving_processes)


def test_a_wrong_key_is_refused(request_for: RequestFor) -> None:
    service = start_endpoint(request_for())
    with pytest.raises(MedllmError, match=r"endpoint demo at .* refused \(400\): .*API key error"):
        ask(replace(service, secret="guessed"), QUESTION)


def test_asking_what_has_ended_says_so(request_for: RequestFor) -> None:
    service = start_endpoint(request_for())
    stop_service("demo")
    with pytest.raises(MedllmError, match=r"endpoint demo at .* did not answer: "):
        ask(service, QUESTION)


@pytest.mark.parametrize(
    "reply",
    [
        "<html>",
        "{}",
        '{"choices": []}',
        '{"choices": [{"message": null}], "usage": {"completion_tokens": 1}}',
        '{"choices": [{"message": {"content": "yes"}}]}',
    ],
)
def test_an_answer_that_is_none_is_shown(stranger: http.server.ThreadingHTTPServer, reply: str) -> None:
    stranger.reply = reply  # type: ignore[attr-defined]
    service = Service("demo", "endpoint", "127.0.0.1", stranger.server_address[1], "demo-abc", "/models/demo", "key")
    with pytest.raises(MedllmError) as caught:
        ask(service, QUESTION)
    assert f"gave no answer that can be read: {reply}" in str(caught.value)


def test_an_empty_answer_of_a_chat_model_is_text(stranger: http.server.ThreadingHTTPServer) -> None:
    row = {"choices": [{"message": {"content": None}}], "usage": {"completion_tokens": 0}}
    stranger.reply = json.dumps(row)  # type: ignore[attr-defined]
    service = Service("demo", "endpoint", "127.0.0.1", stranger.server_address[1], "demo-abc", "/models/demo", "key")
    assert ask(service, QUESTION)["answer"] == ""


def test_the_interpreter_of_this_environment_serves(request_for: RequestFor, serving_processes: Processes) -> None:
    start_endpoint(request_for())
    assert {process.cmdline()[0] for process in serving_processes()} == {sys.executable}


def test_code_of_a_model_is_not_executed_unless_allowed(request_for: RequestFor, serving_processes: Processes) -> None:
    request = request_for()
    (request.model / "modeling_own.py").write_text("")
    with pytest.raises(MedllmError, match=r"modeling_own\.py is code that comes with the model"):
        start_endpoint(request)
    assert_nothing_left(serving_processes)
    assert start_endpoint(replace(request, allow_remote_code=True)).listening()
