"""Start a chat page in front of an endpoint."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import httpx

from medllm_ops.compute.ports import LOOPBACK, check_port_free
from medllm_ops.errors import MedllmError
from medllm_ops.home import home
from medllm_ops.serving.registry import Service, chat_name, check_alive, start_service, stop_service

CHAT_PORT = 9101
PASSWORD_VARIABLE = "MEDLLM_CHAT_PASSWORD"
MINIMUM_PASSWORD = 8
START_SECONDS = 120.0


def password_file() -> Path:
    """Where the generated password of the chat page is kept: it stays the same from one start to the next."""
    return home() / "serving" / "chat_password"


def chat_password() -> str:
    """``MEDLLM_CHAT_PASSWORD`` if it is set, else the one in :func:`password_file`, made at first use.

    :raises MedllmError: if the variable holds nothing but blanks.
    """
    if given := os.environ.get(PASSWORD_VARIABLE):
        if not given.strip():
            raise MedllmError(f"{PASSWORD_VARIABLE} holds nothing but blanks: give a password, or unset it")
        return given
    path = password_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # A temporary file is its owner's alone. It gets the name when it is whole: several pages may start at once.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(9))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    path.chmod(0o600)
    return path.read_text(encoding="utf-8").strip()


def check_chat(host: str, port: int) -> str:
    """Refuse a page that could not or must not be started, before a model is loaded for it; return its password.

    :raises MedllmError: if the port is taken, the password is empty, or it has fewer than 8 characters while the page
        shall listen beyond loopback.
    """
    password = chat_password()
    if not password:
        raise MedllmError(f"{password_file()} is empty: a chat page needs a password; remove the file to have one made")
    if host != LOOPBACK and len(password) < MINIMUM_PASSWORD:
        raise MedllmError(
            f"a chat page on {host} can be reached from other machines: its password in {PASSWORD_VARIABLE} needs at"
            f" least {MINIMUM_PASSWORD} characters"
        )
    check_port_free(host, port)
    return password


def start_chat(endpoint: Service, host: str = LOOPBACK, port: int = CHAT_PORT) -> Service:
    """Start the page and wait until it answers. Its user is ``medllm``, its password :func:`chat_password`.

    :raises MedllmError: as :func:`check_chat`, or if the process ends; nothing is left running.
    """
    password = check_chat(host, port)
    chat = Service(chat_name(endpoint.name), "chat", host, port, endpoint.model_name, endpoint.model, password)
    argv = (sys.executable, "-m", "medllm_ops.serving.chat_page", endpoint.name, chat.name)
    job = start_service(chat, argv, {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"})
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            check_alive(job)
            if _answers(chat):
                return chat
            time.sleep(0.5)
        raise MedllmError(f"the chat page did not answer within {START_SECONDS:.0f} s; log {job.log}")
    except BaseException:
        stop_service(chat.name)
        raise


def _answers(chat: Service) -> bool:
    try:
        return httpx.get(chat.url, timeout=5).status_code == httpx.codes.OK and chat.listening()
    except httpx.TransportError:
        return False
