"""The same on Ray as on one machine; Ray is started and ended within a process of its own."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.files import write_json_lines

ON_RAY = """
import sys
from pathlib import Path
from medllm_ops.curation import parts
from medllm_ops.curation.duplicates import verify
from medllm_ops.curation.duplicates.duplicates import deduplicate
from medllm_ops.curation.duplicates.settings import DuplicateSettings

folder = Path(sys.argv[1])
parts.parts.__defaults__ = (20_000,)
verify.PAIRS_A_JOB = 20
files = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
deduplicate(files, folder / "ray", DuplicateSettings(), worker_count=2, runner="ray")
# Once more in the same process, as the steps of curation are.
deduplicate(files, folder / "again", DuplicateSettings(), worker_count=2, runner="ray")
"""


@pytest.mark.slow
def test_ray_finds_the_same(tmp_path: Path, step: Any, text_row: Callable[..., Any], toys: Any) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'daft[ray]'")
    rows = []
    for seed in range(60):
        tokens = toys.words(100, seed // 3)
        rows.append(text_row(f"r{seed:02}", " ".join(toys.changed(tokens, 0.05 * (seed % 3), toys.words, seed))))
    write_json_lines(tmp_path / "a.jsonl", rows)
    environment = {**os.environ, "RAY_TMPDIR": "/tmp", "HOME": str(tmp_path / "home")}
    environment.pop("RAY_ADDRESS", None)
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    here = step(rows)
    for name in ("clusters.parquet", "removed.jsonl", "ledger.json", "figures.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (here.folder / name).read_bytes()
