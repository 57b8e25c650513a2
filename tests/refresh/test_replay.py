"""The replay proof: whatever instant a refresh is killed at, the corpus is what the files so far say, and no more.

A made-up history of PubMed is served by a mirror and refreshed by a process that is killed again and again, at random
instants and between writes that belong together. After each kill the export must be the truth of the files that are
in the corpus, and at the end of all files.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from medllm_ops.corpus.maintenance import verify
from medllm_ops.corpus.reader import Snapshot
from medllm_ops.corpus.storage import open_storage
from refresh.history import Citation, File, history
from servers.nlm import NlmMirror

SCRIPT = Path(__file__).with_name("killed_refresh.py")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))


@pytest.fixture
def mirror() -> Iterator[NlmMirror]:
    with NlmMirror() as server:
        yield server


def publish(mirror: NlmMirror, files: list[File]) -> None:
    for file in files:
        folder, name = file.name.split("/")
        mirror.add(folder, name, file.xml)


def exported(corpus: Path, path: Path) -> dict[str, Citation]:
    """What the export says, as the truth says it."""
    snapshot = Snapshot(open_storage(str(corpus)))
    if not snapshot.sources:
        return {}
    snapshot.export(path, retracted=True)
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return {
        row["id"].removeprefix("pubmed:"): Citation(
            row["title"], row["text"].removeprefix(row["title"] + "\n"), row["version"], row.get("retracted", False)
        )
        for row in rows
    }


def refreshed(mirror: NlmMirror, corpus: Path, fatal: int = 0, seconds: float | None = None) -> int:
    """Refresh in a process of its own, killed after its ``fatal``-th write or after so many seconds."""
    command = [sys.executable, str(SCRIPT), mirror.url, str(corpus), str(fatal)]
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:  # run() has killed it by SIGKILL
        return -signal.SIGKILL
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode


def survive(mirror: NlmMirror, tmp_path: Path, seed: int, between: int, anywhere: int) -> None:
    """Kill so many times, look each time, then let it end."""
    files = list(history(seed))
    publish(mirror, files)
    truths = [{}, *(file.truth for file in files)]
    corpus = tmp_path / "corpus"
    source = random.Random(seed)
    ways = source.sample(["between"] * between + ["anywhere"] * anywhere, between + anywhere)
    # So few writes at a time that the files last until the last kill.
    most = max(2, 2 * len(files) * 9 // (between + anywhere))
    killed = 0
    for way in ways:
        if way == "between":
            code = refreshed(mirror, corpus, fatal=source.randint(1, most))
        else:
            code = refreshed(mirror, corpus, seconds=source.uniform(0.5, 3))
        killed += code == -signal.SIGKILL
        snapshot = Snapshot(open_storage(str(corpus)))
        applied = len(snapshot.files("pubmed"))
        assert [row["name"] for row in snapshot.files("pubmed")] == [file.name for file in files[:applied]]
        assert exported(corpus, tmp_path / "export.jsonl") == truths[applied]
    print(f"{killed} of {len(ways)} refreshes were killed, {between} of them between two writes")
    assert killed >= len(ways) * 0.8
    assert refreshed(mirror, corpus) == 0
    assert exported(corpus, tmp_path / "export.jsonl") == truths[-1]
    assert list(verify(Snapshot(open_storage(str(corpus))))) == []
    # What was never killed comes out the same, byte for byte.
    assert refreshed(mirror, tmp_path / "unbroken") == 0
    for name in ("corpus", "unbroken"):
        Snapshot(open_storage(str(tmp_path / name))).export(tmp_path / f"{name}.jsonl", retracted=True)
    assert (tmp_path / "corpus.jsonl").read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()


def test_a_history_that_is_killed_and_continued_ends_in_the_truth(mirror: NlmMirror, tmp_path: Path) -> None:
    survive(mirror, tmp_path, seed=1, between=5, anywhere=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_kills(mirror: NlmMirror, tmp_path: Path) -> None:
    survive(mirror, tmp_path, seed=2, between=25, anywhere=25)


def test_after_each_file_the_export_is_the_truth(mirror: NlmMirror, tmp_path: Path) -> None:
    from medllm_ops.refresh.refresh import refresh_source

    corpus = tmp_path / "corpus"
    files = list(history(3, baseline=2, updates=8))
    for number, file in enumerate(files, start=1):
        publish(mirror, [file])
        result = refresh_source("pubmed", {"base_url": mirror.url}, corpus=str(corpus))
        assert [applied.name for applied in result.files] == [file.name]
        assert exported(corpus, tmp_path / "export.jsonl") == file.truth, f"after file {number}"


def test_one_forgotten_deletion_is_noticed(mirror: NlmMirror, tmp_path: Path) -> None:
    from medllm_ops.refresh.refresh import refresh_source

    files = list(history(4, baseline=1, updates=6, forget_a_deletion=True))
    publish(mirror, files)
    refresh_source("pubmed", {"base_url": mirror.url}, corpus=str(tmp_path / "corpus"))
    found, truth = exported(tmp_path / "corpus", tmp_path / "export.jsonl"), files[-1].truth
    assert found != truth
    assert len(truth.keys() - found.keys()) == 1
    assert not found.keys() - truth.keys()
