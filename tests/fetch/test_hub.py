"""The hubs' own clients against servers that answer what they ask."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.fetch import hub
from medllm_ops.fetch.base import FetchedFile, FetchError, Known
from medllm_ops.fetch.http import Client
from servers.base import Fault
from servers.hubs import Hub, HuggingFace, ModelScope

ROWS = b'{"query": "q", "response": "a"}\n'
FILES = {
    "rows.jsonl": ROWS,
    "data/more.json": b"[]",
    "README.md": b"# A card",
    ".gitattributes": b"*.jsonl lfs",
    "data/table.parquet": b"PAR1",
}
REPOSITORY = "some-one/Some.Set"
Fetch = Callable[..., list[FetchedFile]]


@pytest.fixture(params=["huggingface", "modelscope"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MODELSCOPE_OFFLINE", "MODELSCOPE_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # What huggingface_hub read when it was imported, perhaps by another test.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.01)
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "modelscope"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope-cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    made = (HuggingFace if request.param == "huggingface" else ModelScope)(REPOSITORY, dict(FILES))
    with made as running:
        variable = "HF_ENDPOINT" if request.param == "huggingface" else "MODELSCOPE_ENDPOINT"
        monkeypatch.setenv(variable, running.url.rstrip("/"))
        yield running


@pytest.fixture
def place(server: Hub) -> str:
    return f"{'huggingface' if isinstance(server, HuggingFace) else 'modelscope'}:{REPOSITORY}"


@pytest.fixture
def fetch(place: str, tmp_path: Path) -> Fetch:
    def do(known: dict[str, str] | None = None, location: str = place, **settings: Any) -> list[FetchedFile]:
        with Client() as client:
            given = hub.Settings(location=location, timeout=5, **settings)
            return list(hub.fetch(given, Known(files=known or {}), tmp_path / "spool", client))

    return do


def known_of(files: list[FetchedFile]) -> dict[str, str]:
    return {file.name: file.checksum for file in files}


def test_files_of_rows_are_brought_with_the_hubs_checksums(server: Hub, place: str, fetch: Fetch) -> None:
    files = fetch()
    assert [file.name for file in files] == [f"{place}/data/more.json", f"{place}/rows.jsonl"]
    assert [file.path and file.path.read_bytes() for file in files] == [b"[]", ROWS]
    assert files[1].checksum == hashlib.sha256(ROWS).hexdigest()
    assert all(file.whole and file.path and file.path.name == file.name.rpartition("/")[2] for file in files)
    assert set(server.downloads) == {"data/more.json", "rows.jsonl"}


def test_what_is_known_is_not_brought_again(server: Hub, fetch: Fetch) -> None:
    known = known_of(fetch())
    server.requests.clear()
    assert fetch(known) == []
    assert server.downloads == []


def test_a_changed_file_comes_again_and_a_removed_one_is_told(server: Hub, place: str, fetch: Fetch) -> None:
    known = known_of(fetch()) | {"s3://other/rows.jsonl": "1"}
    server.files["rows.jsonl"] = ROWS + ROWS
    del server.files["data/more.json"]
    changed, removed = fetch(known)
    assert changed.path is not None
    assert changed.path.read_bytes() == ROWS + ROWS
    assert (removed.name, removed.path) == (f"{place}/data/more.json", None)


def test_only_the_files_that_match(fetch: Fetch, place: str) -> None:
    (file,) = fetch(patterns=["*.parquet"])
    assert file.name == f"{place}/data/table.parquet"
    with pytest.raises(FetchError, match=r"no file that matches \*\.csv: it has data/more\.json, .*nothing was"):
        fetch(patterns=["*.csv"])


def test_a_download_that_broke_off_is_finished(server: Hub, fetch: Fetch) -> None:
    content = ROWS * 100_000
    server.files = {"rows.jsonl": content}
    if isinstance(server, HuggingFace):
        server.fail("/resolve/", Fault())  # the client asks with HEAD first
    server.fail("/resolve/|FilePath=", Fault(cut=1_000_000))
    (file,) = fetch()
    assert file.path is not None
    assert file.path.read_bytes() == content
    assert len(server.downloads) == (3 if isinstance(server, HuggingFace) else 2)


def test_damaged_content_is_not_kept(server: Hub, fetch: Fetch) -> None:
    server.files = {"rows.jsonl": ROWS}
    server.fail("resolve|FilePath", Fault(corrupt=True), times=None)
    with pytest.raises(FetchError, match=r"rows\.jsonl"):
        fetch()
    server.heal()
    (file,) = fetch()
    assert file.path is not None
    assert file.path.read_bytes() == ROWS


def test_a_data_set_that_is_not_there(server: Hub, fetch: Fetch, place: str) -> None:
    with pytest.raises(FetchError, match=r"cannot be read from .*; check its name and your token") as caught:
        fetch(location=f"{place}-2")
    assert f"{place}-2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_revision_that_is_not_there(server: Hub, fetch: Fetch) -> None:
    with pytest.raises(FetchError, match=r"cannot be read from"):
        fetch(revision="v9")


@pytest.mark.parametrize("path", ["../up.jsonl", "/etc/rows.jsonl", "a/../../up.jsonl"])
def test_a_path_that_leads_elsewhere_is_not_brought(server: Hub, fetch: Fetch, place: str, path: str) -> None:
    server.files = {path: ROWS, "rows.jsonl": ROWS}
    assert [file.name for file in fetch()] == [f"{place}/rows.jsonl"]


SCRIPT = """
import sys, pathlib, time
from medllm_ops.fetch import hub
from medllm_ops.fetch.base import Known, FetchError
began = time.monotonic()
try:
    list(hub.fetch(hub.Settings(location=sys.argv[1]), Known(), pathlib.Path(sys.argv[2]), None))
except FetchError as error:
    print(error)
"""


def told(location: str, folder: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.endswith(("OFFLINE", "_proxy", "_PROXY"))}
    command = [sys.executable, "-c", SCRIPT, location, str(folder)]
    environment = {**clean, "MODELSCOPE_HOME": str(folder / "home"), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize(
    ("location", "variable", "sentence"),
    [
        ("huggingface:a/b", "HF_ENDPOINT", "Hugging Face (http://127.0.0.1:9) cannot be reached: "),
        ("modelscope:a/b", "MODELSCOPE_ENDPOINT", "ModelScope (http://127.0.0.1:9) cannot be reached: "),
        ("modelscope:a/b", "MODELSCOPE_DOMAIN", "ModelScope (http://127.0.0.1:9) cannot be reached: "),
    ],
)
def test_without_network_one_sentence_says_so(tmp_path: Path, location: str, variable: str, sentence: str) -> None:
    said = told(location, tmp_path, **{variable: "http://127.0.0.1:9"})
    assert said.startswith(sentence)
    assert "bring the files here by hand and give their folder as location" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("location", "variable"),
    [
        ("huggingface:a/b", "HF_HUB_OFFLINE"),
        ("huggingface:a/b", "TRANSFORMERS_OFFLINE"),
        ("modelscope:a/b", "MODELSCOPE_OFFLINE"),
    ],
)
def test_a_user_who_wants_no_network_is_obeyed(tmp_path: Path, location: str, variable: str) -> None:
    said = told(location, tmp_path, HF_ENDPOINT="http://127.0.0.1:9", **{variable: "1"})
    assert said.startswith(f"{location} was not asked for, because {variable} is set: unset it, or bring")


def test_a_hub_that_takes_a_connection_and_says_nothing(
    server: Hub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_REACH_SECONDS", 0.2)
    monkeypatch.setattr("httpx.head", lambda *_, **__: server.sleep(30))
    with pytest.raises(FetchError, match=r"cannot be reached: no answer within 0\.2 s"):
        fetch()
