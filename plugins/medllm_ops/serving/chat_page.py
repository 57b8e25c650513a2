"""The chat page's process: ``python -m medllm_ops.serving.chat_page ENDPOINT CHAT``.

Both are names of services; the page talks to the OpenAI endpoint of the first and listens as the second says.
ms-swift's own page has no login, and its source warns of remote code execution on 0.0.0.0.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.serving.registry import Service, find_service

USER = "medllm"
NOTICE = (
    "For research and development. This model gives no medical advice; ask a doctor.  \n"
    "仅供研究与开发使用。本模型不提供医疗建议，请咨询医生。"
)
SIGN_IN = (
    "Sign in with the user and password that <code>medllm-ops serve</code> printed.<br>"
    "请用 <code>medllm-ops serve</code> 显示的用户名和密码登录。"
)
EXAMPLES = [
    "Who are you?",
    "你是谁？",
    "What are the common symptoms of iron deficiency?",
    "缺铁性贫血有哪些常见症状？",
    "Explain in two sentences what a randomised trial is.",
    "感冒时应该注意什么？",
]
NO_ANSWER = "The model did not answer / 模型没有回答"
MAX_TOKENS = 512
CONCURRENT_ANSWERS = 4
STYLE = Path(__file__).with_name("chat_page.css")
# System fonts: the default theme would fetch its own, and none of them has Chinese.
FONTS = ("system-ui", "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif")
# An answer is Markdown, so a model could make the browser fetch an image from anywhere: nothing but this page is asked.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:;"
    " style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class PolicyMiddleware:
    """Sends the content security policy with every answer."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        """Pass a request on, and add the header to its answer."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def build_page(endpoint: Service, password: str) -> Any:
    """The gradio page in front of an endpoint.

    :param password: conversations are kept in the user's browser, encrypted with a key made of it, so that they can
        be read again after a restart.
    """
    import gradio
    from openai import AsyncOpenAI, OpenAIError

    client = AsyncOpenAI(base_url=endpoint.url, api_key=endpoint.secret, max_retries=0)

    async def reply(message: str, history: list[dict[str, Any]]) -> AsyncIterator[str]:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
        answer = ""
        try:
            stream = await client.chat.completions.create(
                model=endpoint.model_name,
                messages=[*turns, {"role": "user", "content": message}],
                max_tokens=MAX_TOKENS,
                stream=True,
            )
            async with stream:
                async for chunk in stream:
                    if chunk.choices and (part := chunk.choices[0].delta.content):
                        answer += part
                        yield answer
        except OpenAIError as error:
            # As text: an error that is raised would leave gradio's input field disabled.
            yield f"{answer}\n\n({NO_ANSWER}: {error})".lstrip()
            return
        if not answer:
            yield f"({NO_ANSWER})"

    with gradio.Blocks(title=f"{endpoint.name} · medllm-ops", analytics_enabled=False, fill_width=True) as page:
        gradio.Markdown(f"# {endpoint.name}", elem_id="model-name")
        gradio.Markdown(NOTICE, elem_id="notice")
        chat = gradio.ChatInterface(
            reply,
            examples=EXAMPLES,
            # Only fills the field: gradio would not keep a conversation that begins with an example it runs.
            run_examples_on_click=False,
            cache_examples=False,
            save_history=True,
            concurrency_limit=CONCURRENT_ANSWERS,
            analytics_enabled=False,
            api_visibility="private",
            # The default buttons include one that publishes the conversation on a public site.
            chatbot=gradio.Chatbot(
                height="calc(100dvh - 235px)",
                min_height=320,
                show_label=False,
                buttons=["copy", "copy_all"],
                sanitize_html=True,
            ),
            textbox=gradio.Textbox(
                placeholder="Ask a question / 请提问",
                show_label=False,
                max_length=8000,
                submit_btn=True,
                stop_btn=True,
                autofocus=True,
            ),
        )
        chat.saved_conversations.secret = hashlib.sha256(password.encode()).hexdigest()[:32]
    return page


def _text(content: Any) -> str:
    """A turn's text: gradio hands it over as a string or as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if isinstance(part, dict) else str(part) for part in content)


def main(endpoint_name: str, chat_name: str) -> None:
    """Serve the page until the process is ended.

    :raises MedllmError: if one of the services is unknown.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio
    from starlette.middleware import Middleware

    endpoint, chat = find_service(endpoint_name), find_service(chat_name)
    if endpoint is None or chat is None:
        raise MedllmError(f"no service {endpoint_name if endpoint is None else chat_name}")
    theme = gradio.themes.Default(primary_hue="teal", neutral_hue="slate", font=FONTS, font_mono=["ui-monospace"])
    theme.set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_800")
    build_page(endpoint, chat.secret).launch(
        server_name=chat.host,
        server_port=chat.port,
        auth=(USER, chat.secret),
        auth_message=SIGN_IN,
        theme=theme,
        css_paths=STYLE,
        app_kwargs={"middleware": [Middleware(PolicyMiddleware)]},
        footer_links=[],
        # It would keep every call in the browser, readable by anyone, and offer to upload it.
        run_history=False,
        share=False,
        ssr_mode=False,
        quiet=True,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
