"""A headless Chromium signs in to the chat page and talks to a stand-in for the model."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from medllm_ops.compute.ports import free_port
from medllm_ops.serving.chat import start_chat
from medllm_ops.serving.chat_page import EXAMPLES, NOTICE, USER
from medllm_ops.serving.endpoint import EndpointRequest, start_endpoint
from medllm_ops.serving.registry import Service

WaitUntil = Callable[[Callable[[], object]], None]

WAIT_MILLISECONDS = 15_000
QUESTION = "青蒿素是从哪种植物中提取的？"
ANSWER = f"turn 1: you said '{QUESTION}'"
ENDLESS = "Please talk for ever"


@pytest.fixture(scope="module", autouse=True)
def _patient() -> None:
    expect.set_options(timeout=WAIT_MILLISECONDS)


@pytest.fixture(scope="module")
def services(browser: Browser, shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, Service]:
    """An endpoint and its chat page."""
    endpoint = start_endpoint(EndpointRequest("demo-model", tmp_path_factory.mktemp("model")))
    return endpoint, start_chat(endpoint, port=free_port())


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that was never here, and that keeps what it is given."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(WAIT_MILLISECONDS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, services: tuple[Service, Service]) -> Iterator[Page]:
    """The chat page, not signed in yet. Nobody but the page itself may be asked for anything."""
    page = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(services[1].url)
    yield page
    here = {urlsplit(services[1].url).netloc, ""}
    assert [url for url in asked if urlsplit(url).netloc not in here] == []
    assert broken == []


@pytest.fixture
def other_site() -> Iterator[list[str]]:
    """The address of another site, and then what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen = [f"http://127.0.0.1:{server.server_address[1]}"]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield seen
        server.shutdown()
        thread.join()


def sign_in(page: Page, password: str, user: str = USER) -> None:
    page.get_by_label("username").fill(user)
    page.get_by_label("password").fill(password)
    # The words of an earlier refusal stay until the next answer: only the answer itself says that it came.
    with page.expect_response("**/login"):
        page.get_by_role("button", name="Login").click()


@pytest.fixture
def signed_in(page: Page, services: tuple[Service, Service]) -> Page:
    sign_in(page, services[1].secret)
    expect(page.get_by_placeholder("Ask a question / 请提问")).to_be_visible()
    return page


def ask(page: Page, question: str) -> None:
    page.locator("textarea").fill(question)
    page.keyboard.press("Enter")


def answers(page: Page) -> Locator:
    return page.get_by_test_id("bot")


def send_button(page: Page) -> Locator:
    # gradio gives these buttons no name.
    return page.locator("button.submit-button")


def stop_button(page: Page) -> Locator:
    return page.locator("button.stop-button")


def test_a_wrong_password_or_user_is_shown_nothing(page: Page, services: tuple[Service, Service]) -> None:
    sign_in(page, services[1].secret, "admin")
    expect(page.get_by_text("Incorrect Credentials")).to_be_visible()
    sign_in(page, "guessed")
    expect(page.get_by_text("Incorrect Credentials")).to_be_visible()
    expect(page.get_by_text("demo-model")).to_have_count(0)
    sign_in(page, services[1].secret)
    expect(page.get_by_role("heading", name="demo-model")).to_be_visible()


@pytest.mark.parametrize("path", ["config", "gradio_api/info", "gradio_api/openapi.json", "gradio_api/runs"])
def test_without_a_login_nothing_is_told(services: tuple[Service, Service], path: str) -> None:
    response = httpx.get(f"{services[1].url}/{path}")
    assert response.status_code in (401, 404)
    assert "demo-model" not in response.text


@pytest.mark.parametrize("path", ["queue/join", "call/chat", "run/chat", "api/predict", "upload"])
def test_without_a_login_nothing_is_done(services: tuple[Service, Service], path: str) -> None:
    body = {"data": [QUESTION], "fn_index": 0, "session_hash": "abc"}
    assert httpx.post(f"{services[1].url}/gradio_api/{path}", json=body).status_code == 401


def test_a_user_is_told_what_this_is_and_what_to_ask(signed_in: Page) -> None:
    assert signed_in.title() == "demo-model · medllm-ops"
    notice = signed_in.locator("#notice")
    for sentence in NOTICE.splitlines():
        expect(notice).to_contain_text(sentence.strip())
    assert "no medical advice" in notice.inner_text()
    assert "不提供医疗建议" in notice.inner_text()
    for example in EXAMPLES:
        expect(signed_in.get_by_role("button", name=example)).to_be_visible()
    # Nothing is cut off, and nothing publishes a conversation.
    assert signed_in.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert signed_in.evaluate("document.documentElement.scrollHeight <= innerHeight")
    expect(signed_in.get_by_role("button", name="Share")).to_have_count(0)


def test_a_question_is_answered_and_the_next_one_knows_it(signed_in: Page) -> None:
    ask(signed_in, QUESTION)
    expect(answers(signed_in)).to_have_text(ANSWER)
    expect(send_button(signed_in)).to_be_visible()
    ask(signed_in, "Is that certain?")
    expect(answers(signed_in)).to_have_text([ANSWER, "turn 3: you said 'Is that certain?'"])


def test_an_example_is_asked_and_kept(signed_in: Page) -> None:
    signed_in.get_by_role("button", name=EXAMPLES[3]).click()
    expect(signed_in.get_by_role("textbox")).to_have_value(EXAMPLES[3])
    send_button(signed_in).click()
    expect(signed_in.get_by_test_id("user")).to_have_text(EXAMPLES[3])
    expect(answers(signed_in)).to_have_text(f"turn 1: you said '{EXAMPLES[3]}'")
    expect(signed_in.get_by_role("gridcell", name=EXAMPLES[3])).to_be_visible()


def test_an_answer_is_read_while_it_is_written_and_can_be_stopped(
    signed_in: Page, shared_home: Path, wait_until: WaitUntil
) -> None:
    (log,) = shared_home.glob("serving/demo-model/job/job.log")
    gone = log.read_text().count("the client went away")
    ask(signed_in, ENDLESS)
    expect(stop_button(signed_in)).to_be_visible()
    expect(answers(signed_in)).to_contain_text("turn 1")
    first = answers(signed_in).inner_text()
    wait_until(lambda: len(answers(signed_in).inner_text()) > len(first))
    stop_button(signed_in).click()
    expect(send_button(signed_in)).to_be_visible()
    expect(stop_button(signed_in)).to_have_count(0)
    # The model is stopped too, not the page alone.
    wait_until(lambda: log.read_text().count("the client went away") > gone)
    stopped = answers(signed_in).inner_text()
    signed_in.wait_for_timeout(300)
    assert answers(signed_in).inner_text() == stopped
    ask(signed_in, QUESTION)
    expect(answers(signed_in).last).to_have_text(f"turn 3: you said '{QUESTION}'")


def test_a_conversation_is_there_after_a_reload_and_unreadable_on_the_disk(signed_in: Page) -> None:
    ask(signed_in, QUESTION)
    expect(answers(signed_in)).to_have_text(ANSWER)
    expect(send_button(signed_in)).to_be_visible()
    past = signed_in.get_by_role("gridcell", name=QUESTION)
    expect(past).to_be_visible()
    signed_in.reload()
    # Signed in still.
    expect(answers(signed_in)).to_have_count(0)
    past.click()
    expect(signed_in.get_by_test_id("user")).to_have_text(QUESTION)
    expect(answers(signed_in)).to_have_text(ANSWER)
    kept = signed_in.evaluate("JSON.stringify(localStorage)")
    assert "saved_conversations" in kept
    assert QUESTION not in kept
    assert signed_in.evaluate("indexedDB.databases().then(found => found.map(one => one.name))") == []


def test_there_is_no_page_that_keeps_and_uploads_every_call(signed_in: Page, services: tuple[Service, Service]) -> None:
    assert signed_in.request.get(f"{services[1].url}/config").status == 200
    assert signed_in.request.get(f"{services[1].url}/gradio_api/runs").status == 404


def test_a_model_that_breaks_down_is_told_and_the_next_question_answered(signed_in: Page) -> None:
    ask(signed_in, "Please break down")
    expect(answers(signed_in)).to_contain_text("(The model did not answer / 模型没有回答: ")
    expect(answers(signed_in)).to_contain_text("out of memory")
    ask(signed_in, QUESTION)
    expect(answers(signed_in).last).to_have_text(f"turn 3: you said '{QUESTION}'")


def test_an_answer_runs_nothing(signed_in: Page) -> None:
    ask(signed_in, """<img src="nowhere.png" onerror="document.title = 'hacked'"> <script>alert(1)</script> end""")
    expect(answers(signed_in)).to_contain_text("end")
    expect(send_button(signed_in)).to_be_visible()
    assert signed_in.title() == "demo-model · medllm-ops"


def test_an_answer_makes_the_browser_fetch_nothing(
    context: BrowserContext, services: tuple[Service, Service], other_site: list[str]
) -> None:
    page = context.new_page()
    page.goto(services[1].url)
    sign_in(page, services[1].secret)
    violations = []
    page.on("console", lambda message: violations.append(message.text) if "violates" in message.text else None)
    ask(page, f"![picture]({other_site[0]}/picture.png?what=asked) end")
    expect(answers(page)).to_contain_text("end")
    expect(answers(page).locator("img")).to_have_count(1)
    page.wait_for_timeout(300)
    assert other_site[1:] == []
    assert violations
