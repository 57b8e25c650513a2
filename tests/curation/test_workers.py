import os
import sys

import pytest

from medllm_ops.curation.workers import import_daft, workers
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


def test_results_come_in_the_order_of_the_jobs() -> None:
    with workers(2) as run:
        assert run(os.path.basename, []) == []
        assert run(len, [{"a": 1}, {}, {"a": 1, "b": 2}]) == [1, 0, 2]
