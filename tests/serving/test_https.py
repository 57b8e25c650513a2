"""The configurations of docs/operations/https.md, run by nginx and Caddy in front of a real chat page and endpoint."""

from __future__ import annotations

import http.server
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from medllm_ops.compute.ports import free_port
from medllm_ops.serving.chat import start_chat
from medllm_ops.serving.chat_page import USER
from medllm_ops.serving.endpoint import EndpointRequest, start_endpoint
from medllm_ops.serving.registry import Service
from serving.proxies import WAIT_SECONDS, Blocks, Proxy, ProxyOf, caddy, nginx

pytestmark = pytest.mark.slow

SILENT_SECONDS = 65.0
ENDLESS = "Please talk for ever"


@pytest.fixture(scope="module")
def services(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, Service]:
    endpoint = start_endpoint(EndpointRequest("demo-model", tmp_path_factory.mktemp("model")))
    return endpoint, start_chat(endpoint, port=free_port())


@pytest.fixture(scope="module")
def blocks(repository: Path) -> Blocks:
    """What the page shows, by kind."""
    text = (repository / "docs" / "operations" / "https.md").read_text(encoding="utf-8")
    found: Blocks = {}
    for kind, block in re.findall(r"```(nginx|caddy)\n(.*?)```", text, re.DOTALL):
        found.setdefault(kind, []).append(block)
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    names = ",".join(f"DNS:{name}.localhost" for name in ("airflow", "chat", "model"))
    files = folder / "medllm.pem", folder / "medllm.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=medllm"]
    command += ["-addext", f"subjectAltName={names}", "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture(scope="module")
def ports(services: tuple[Service, Service]) -> dict[str, str]:
    endpoint, chat = services
    return {"127.0.0.1:9101": f"127.0.0.1:{chat.port}", "127.0.0.1:9102": f"127.0.0.1:{endpoint.port}"}


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy_of(
    request: pytest.FixtureRequest,
    blocks: Blocks,
    certificate: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> ProxyOf:
    """A proxy in front of other ports than those of the page."""
    return lambda ports: request.param(tmp_path_factory.mktemp("proxy"), blocks, ports, certificate)


@pytest.fixture(scope="module")
def proxy(proxy_of: ProxyOf, ports: dict[str, str]) -> Iterator[Proxy]:
    with proxy_of(ports) as proxy:
        yield proxy


def question(endpoint: Service, text: str) -> dict[str, object]:
    return {"model": endpoint.model_name, "stream": True, "messages": [{"role": "user", "content": text}]}


def test_the_endpoint_wants_its_key(proxy: Proxy, services: tuple[Service, Service]) -> None:
    endpoint = services[0]
    key = {"Authorization": f"Bearer {endpoint.secret}"}
    with proxy.client("model") as client:
        assert [row["id"] for row in client.get("/v1/models", headers=key).json()["data"]] == [endpoint.model_name]
        refused = client.post("/v1/chat/completions", json=question(endpoint, "Hello"))
        assert refused.status_code == 400
        assert "API key" in refused.text


@contextmanager
def model(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[dict[str, str]]:
    """Something in the place of the endpoint; yields what its port stands for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            answer(self)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        yield {"127.0.0.1:9102": f"127.0.0.1:{server.server_address[1]}"}
        server.shutdown()


def test_an_answer_comes_word_by_word(proxy_of: ProxyOf) -> None:
    read = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b"data: first\n\n")
        # The second word is not said before the first was read.
        handler.wfile.write(b"data: second\n\n" if read.wait(WAIT_SECONDS) else b"data: nobody listens\n\n")

    with (
        model(answer) as ports,
        proxy_of(ports) as proxy,
        proxy.client("model") as client,
        client.stream("POST", "/v1/chat/completions", timeout=2 * WAIT_SECONDS) as answered,
    ):
        parts = answered.iter_raw()
        assert next(parts) == b"data: first\n\n"
        read.set()
        assert b"".join(parts) == b"data: second\n\n"


def test_a_long_prompt_gets_through(proxy: Proxy, services: tuple[Service, Service]) -> None:
    endpoint = services[0]
    body = {**question(endpoint, "long " * 400_000), "stream": False}
    with proxy.client("model") as client:
        answer = client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {endpoint.secret}"})
    assert answer.status_code == 200


def test_a_model_may_think_for_longer_than_a_minute(proxy_of: ProxyOf) -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(SILENT_SECONDS)
        handler.end_headers()

    with model(answer) as ports, proxy_of(ports) as proxy, proxy.client("model") as client:
        assert client.post("/v1/chat/completions", timeout=3 * SILENT_SECONDS).status_code == 200


def test_the_chat_page_signs_in_and_answers_while_it_is_written(
    proxy: Proxy, services: tuple[Service, Service], browser: Browser
) -> None:
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    asked, sockets = talk(page, proxy.url("chat"), services[1])
    assert {url.split("/")[2] for url in asked} == {f"chat.localhost:{proxy.port}"}
    assert sockets == []
    assert any(cookie["secure"] and cookie["httpOnly"] for cookie in context.cookies())
    context.close()


def talk(page: Page, url: str, chat: Service) -> tuple[list[str], list[str]]:
    """Sign in, ask, and read while the answer is written; return all addresses that were asked."""
    expect.set_options(timeout=WAIT_SECONDS * 1000)
    page.set_default_timeout(WAIT_SECONDS * 1000)
    asked: list[str] = []
    sockets: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(url)
    for password, status in (("guessed", 400), (chat.secret, 200)):
        page.get_by_label("username").fill(USER)
        page.get_by_label("password").fill(password)
        with page.expect_response("**/login") as answered:
            page.get_by_role("button", name="Login").click()
        assert answered.value.status == status
    expect(page.locator("textarea")).to_be_visible()
    page.locator("textarea").fill(ENDLESS)
    page.keyboard.press("Enter")
    answer = page.get_by_test_id("bot")
    expect(answer).to_contain_text("turn 1")
    first = answer.inner_text()
    expect(answer).not_to_have_text(first)
    return asked, sockets


def test_the_chat_page_lies_under_a_path(
    services: tuple[Service, Service],
    blocks: Blocks,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    browser: Browser,
) -> None:
    endpoint = services[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ROOT_PATH", "/chat")
        beside = Service("beside", endpoint.kind, endpoint.host, endpoint.port, *list_of(endpoint))
        beside.write()
        chat = start_chat(beside, port=free_port())
    with nginx(tmp_path, blocks, {"127.0.0.1:9101": f"127.0.0.1:{chat.port}"}, certificate) as proxy:
        page = browser.new_context(ignore_https_errors=True).new_page()
        asked, _ = talk(page, f"{proxy.url('airflow')}/chat/", chat)
        assert all(url.startswith(f"{proxy.url('airflow')}/chat/") for url in asked)


def list_of(endpoint: Service) -> tuple[str, str, str]:
    return endpoint.model_name, endpoint.model, endpoint.secret


def test_nginx_limits_how_often_a_password_can_be_guessed(
    services: tuple[Service, Service],
    blocks: Blocks,
    ports: dict[str, str],
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    with nginx(tmp_path, blocks, ports, certificate) as proxy, proxy.client("chat") as client:
        form = {"username": USER, "password": "guessed"}
        assert [client.post("/login", data=form).status_code for _ in range(6)] == [400] * 6
        assert client.post("/login", data=form).status_code == 429
        assert client.get("/").status_code == 200
