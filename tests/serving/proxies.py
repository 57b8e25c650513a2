"""nginx and Caddy with the configurations of docs/operations/https.md, in front of ports of this machine."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from medllm_ops.compute.ports import free_port

Blocks = dict[str, list[str]]

WAIT_SECONDS = 180.0
# nginx of another path than root's has folders of its own, which it may not write to.
NGINX = """
pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; master_process off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/medllm.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy that answers for ``<name>.localhost``."""

    port: int
    certificate: Path

    def url(self, name: str) -> str:
        return f"https://{name}.localhost:{self.port}"

    def client(self, name: str) -> httpx.Client:
        """Asks for a name, and checks the certificate; the address is this machine's, whatever its resolver says."""
        client = httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": f"{name}.localhost:{self.port}"},
            verify=ssl.create_default_context(cafile=str(self.certificate)),
            timeout=30,
        )
        client.event_hooks["request"] = [lambda request: request.extensions.update(sni_hostname=f"{name}.localhost")]
        return client


ProxyOf = Callable[[dict[str, str]], AbstractContextManager[Proxy]]


@contextmanager
def running(command: list[str], port: int, certificate: Path, log: Path) -> Iterator[Proxy]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(log.parent)}
        )
    proxy = Proxy(port, certificate)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with proxy.client("chat") as client:
                    client.get("/")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=WAIT_SECONDS)


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt install {package}")
    return found


@contextmanager
def nginx(folder: Path, blocks: Blocks, ports: dict[str, str], files: tuple[Path, Path]) -> Iterator[Proxy]:
    binary, port = program("nginx", "nginx-light"), free_port()
    snippet, servers, location = blocks["nginx"]
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "snippets/medllm.conf": f"{folder}/snippet.conf",
        "/etc/ssl/medllm.pem": str(files[0]),
        "/etc/ssl/medllm.key": str(files[1]),
        "example.org": "localhost",
        **ports,
    }
    # The page under a path, at the name that is Airflow's, where no Airflow is.
    servers = servers.replace("location / {", f"{location}    location / {{", 1)
    for name, text in (("snippet", snippet), ("medllm", servers)):
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / f"{name}.conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    command = [binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with running(command, port, files[0], folder / "nginx.log") as proxy:
        yield proxy


@contextmanager
def caddy(folder: Path, blocks: Blocks, ports: dict[str, str], files: tuple[Path, Path]) -> Iterator[Proxy]:
    binary, port = program("caddy", "caddy"), free_port()
    (text,) = blocks["caddy"]
    for old, new in ports.items():
        text = text.replace(old, new)
    # The certificate is ours: there is no authority to fetch one from.
    text = re.sub(r"(\w+)\.example\.org {", rf"https://\1.localhost:{port} {{\n    tls {files[0]} {files[1]}", text)
    (folder / "Caddyfile").write_text(f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{text}")
    command = [binary, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with running(command, port, files[0], folder / "caddy.log") as proxy:
        yield proxy
