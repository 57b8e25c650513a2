"""Start a chat page in front of an endpoint."""

from __future__ import annotations

import os
import secrets
import sys
import time

import httpx

from medllm_ops.errors import MedllmError
from medllm_ops.serving.registry import LOOPBACK, Service, check_alive, start_service, stop_service

CHAT_PORT = 9101
START_SECONDS = 120.0


def start_chat(endpoint: Service, host: str = LOOPBACK, port: int = CHAT_PORT) -> Service:
    """Start the page and wait until it answers.

    Its user is ``medllm``; its password is ``MEDLLM_CHAT_PASSWORD``, or generated and kept in the service's file.

    :raises MedllmError: if the port is taken or the process ends; nothing is left running. Also if it shall listen
        beyond loopback with a password of fewer than 8 characters.
    """
    password = os.environ.get("MEDLLM_CHAT_PASSWORD") or secrets.token_urlsafe(9)
    if host != LOOPBACK and len(password) < 8:
        raise MedllmError(f"a chat page on {host} needs a password of at least 8 characters in MEDLLM_CHAT_PASSWORD")
    name = f"{endpoint.name}-chat"
    chat = Service(name, "chat", host, port, endpoint.model_name, endpoint.model, password)
    argv = (sys.executable, "-m", "medllm_ops.serving.chat_page", endpoint.name, name)
    job = start_service(chat, argv, {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"})
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            check_alive(job)
            try:
                if httpx.get(chat.url, timeout=5).status_code == httpx.codes.OK:
                    return chat
            except httpx.HTTPError:
                time.sleep(0.5)
        raise MedllmError(f"the chat page did not answer within {START_SECONDS:.0f} s; log {job.log}")
    except BaseException:
        stop_service(name)
        raise
