import os
import subprocess
import sys
from pathlib import Path

import pytest

from medllm_ops.curation import workers as module
from medllm_ops.curation.workers import cores_for, import_daft, workers
from medllm_ops.errors import MedllmError


def test_without_ray_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MedllmError, match="the runner ray needs Ray: pip install"), workers(2, "ray"):
        pass


def test_daft_reports_to_nobody_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DO_NOT_TRACK", "DAFT_ANALYTICS_ENABLED", "DAFT_PROGRESS_BAR"):
        monkeypatch.delenv(name, raising=False)
    import_daft()
    found = [os.environ[name] for name in ("DO_NOT_TRACK", "DAFT_ANALYTICS_ENABLED", "DAFT_PROGRESS_BAR")]
    assert found == ["1", "0", "0"]


def test_a_process_that_logs_ends_well_and_shows_nothing_of_daft_s() -> None:
    script = (
        "import logging; from medllm_ops.curation.workers import workers; logging.basicConfig(level=logging.INFO)\n"
        "with workers(2) as run: print(run(len, [{}, {}]))"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 0]\n", "")


def test_results_come_in_the_order_of_the_jobs() -> None:
    with workers(2) as run:
        assert run(os.path.basename, []) == []
        assert run(len, [{"a": 1}, {}, {"a": 1, "b": 2}]) == [1, 0, 2]


@pytest.mark.parametrize(("megabytes", "expected"), [(0, 1), (15, 1), (16, 2), (33, 3), (1000, 4)])
def test_few_rows_start_no_workers_that_take_longer_than_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int, expected: int
) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path in files:
        with path.open("wb") as file:
            file.truncate(megabytes << 19)
    assert cores_for([*files, tmp_path / "missing.jsonl"]) == expected
