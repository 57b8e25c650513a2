"""The chat page's process: ``python -m medllm_ops.serving.chat_page ENDPOINT CHAT``.

Both are names of services; the page talks to the OpenAI endpoint of the first and listens as the second says.
ms-swift's own page has no login, and its source warns of remote code execution on 0.0.0.0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from medllm_ops.errors import MedllmError
from medllm_ops.serving.registry import Service, find_service

USER = "medllm"
NOTICE = (
    "**For research and development. This model gives no medical advice; ask a doctor.**  \n"
    "**仅供研究与开发使用。本模型不提供医疗建议，请咨询医生。**"
)
EXAMPLES = [
    "Who are you?",
    "你是谁？",
    "What are the common symptoms of iron deficiency?",
    "感冒时应该注意什么？",
    "Explain what a randomised trial is in two sentences.",
]
MAX_TOKENS = 512


def build_page(endpoint: Service) -> Any:
    """The gradio page in front of an endpoint."""
    import gradio
    from openai import OpenAI

    client = OpenAI(base_url=endpoint.url, api_key=endpoint.secret, max_retries=0)

    def reply(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
        stream = client.chat.completions.create(
            model=endpoint.model_name,
            messages=[*turns, {"role": "user", "content": message}],
            max_tokens=MAX_TOKENS,
            stream=True,
        )
        answer = ""
        for chunk in stream:
            if chunk.choices and (part := chunk.choices[0].delta.content):
                answer += part
                yield answer
        if not answer:
            yield "(the model gave no answer)"

    with gradio.Blocks(title="medllm-ops chat", analytics_enabled=False, fill_height=True) as page:
        gradio.Markdown(NOTICE)
        gradio.ChatInterface(
            reply,
            title=f"{endpoint.name}",
            examples=EXAMPLES,
            run_examples_on_click=True,
            cache_examples=False,
            save_history=True,
            analytics_enabled=False,
            api_visibility="private",
            chatbot=gradio.Chatbot(height="60vh", label="Conversation", sanitize_html=True),
            textbox=gradio.Textbox(placeholder="Ask a question / 请提问", show_label=False, max_length=8000),
        )
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

    endpoint, chat = find_service(endpoint_name), find_service(chat_name)
    if endpoint is None or chat is None:
        raise MedllmError(f"no service {endpoint_name if endpoint is None else chat_name}")
    # System fonts: the default theme would ask a font server.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    build_page(endpoint).launch(
        server_name=chat.host,
        server_port=chat.port,
        auth=(USER, chat.secret),
        auth_message="Sign in with the user and password that <code>medllm-ops serve</code> printed.",
        theme=theme,
        footer_links=[],
        share=False,
        ssr_mode=False,
        quiet=True,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
