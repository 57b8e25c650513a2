"""A home of its own for every test, a stand-in for ms-swift, and the promise that no process outlives a test."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from medllm_ops.serving.endpoint import EndpointRequest
from medllm_ops.serving.registry import stop_service

FAKE = Path(__file__).with_name("fake")


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started with this home, and is no zombie."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mine = process.pid != os.getpid() and process.environ().get("MEDLLM_HOME") == str(home)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def use_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Path]:
    monkeypatch.setenv("MEDLLM_HOME", str(home))
    monkeypatch.delenv("MEDLLM_CHAT_PASSWORD", raising=False)
    yield home
    monkeypatch.setenv("MEDLLM_HOME", str(home))
    for state in (home / "serving").glob("*/service.json"):
        stop_service(state.parent.name)
    left = processes_of(home)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert left == [], "the test left processes running that `serve stop` does not find"


def put_stand_in_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(FAKE), os.environ.get("PYTHONPATH")))))


@pytest.fixture(autouse=True)
def serving_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from use_home(monkeypatch, tmp_path / "home")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for what a whole module shares, with the stand-in for ms-swift."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_stand_in_first(monkeypatch)
        yield from use_home(monkeypatch, tmp_path_factory.mktemp("serving") / "home")


@pytest.fixture
def serving_processes(serving_home: Path) -> Callable[[], list[psutil.Process]]:
    """What runs of this test's services."""
    return lambda: processes_of(serving_home)


@pytest.fixture
def fake_swift(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Endpoints that start from now on run the stand-in; the argument says how it behaves."""
    put_stand_in_first(monkeypatch)

    def behave(behaviour: str = "") -> None:
        monkeypatch.setenv("FAKE_SWIFT", behaviour)

    behave()
    return behave


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.fixture
def request_for(model_dir: Path, fake_swift: Callable[[str], None]) -> Callable[..., EndpointRequest]:
    """A request to serve a model folder that only the stand-in can serve."""

    def make(name: str = "demo", **changes: object) -> EndpointRequest:
        return EndpointRequest(name=name, model=model_dir, model_type="qwen2", template="qwen2_5", **changes)  # type: ignore[arg-type]

    return make
