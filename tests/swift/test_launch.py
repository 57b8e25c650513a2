"""ms-swift's modules run as they would without the launcher, and their imports without the search for garbage."""

import gc
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medllm_ops.swift.launch import quick_imports

PIPELINES = "import gc, os\nos.environ['COLLECTED'] = str(gc.isenabled())\n" + "".join(
    f"def {name}_main(): pass\n" for name in ("export", "pretrain", "rlhf", "sft")
)
MODULE = """
import gc, json, os, sys
early = "swift.pipelines" in sys.modules
import swift.pipelines
if __name__ == "__main__":
    told = {"argv": sys.argv[1:], "early": early, "collected": os.environ["COLLECTED"], "now": gc.isenabled()}
    print(json.dumps(told | {"frozen": gc.get_freeze_count() > 0}))
    sys.exit(5)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    cli = tmp_path / "swift" / "cli"
    cli.mkdir(parents=True)
    for folder in (cli.parent, cli):
        (folder / "__init__.py").touch()
    (cli.parent / "pipelines.py").write_text(PIPELINES)
    (cli / "sft.py").write_text(MODULE)
    return tmp_path


def run(fake: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(fake), os.environ.get("PYTHONPATH", ""), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "medllm_ops.swift.launch", "swift.cli.sft", *arguments],
        env={**os.environ, **variables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def launch(fake: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    done = run(fake, *arguments, **variables)
    assert done.returncode == 5, done.stderr
    return dict(json.loads(done.stdout))


def test_the_imports_are_made_first_and_no_garbage_is_looked_for_meanwhile(fake: Path) -> None:
    told = launch(fake, "--model", "x y", "--flag=1")
    assert told["argv"] == ["--model", "x y", "--flag=1"]
    assert told["early"]
    assert told["collected"] == "False"
    assert told["now"]
    assert told["frozen"]


MAPS = """
import os
from datasets import Dataset
rows = Dataset.from_list([{"pid": 0}] * 3)
for processes in (1, None, 2):
    mapped = rows.map(lambda row: {"pid": os.getpid()}, num_proc=processes, load_from_cache_file=False)
    print(processes, len(mapped), set(mapped["pid"]) == {os.getpid()})
"""


def test_rows_are_made_ready_in_this_process_unless_more_are_asked_for(fake: Path) -> None:
    (fake / "swift" / "cli" / "sft.py").write_text(MAPS)
    assert run(fake).stdout.splitlines() == ["1 3 True", "None 3 True", "2 3 False"]


@pytest.mark.parametrize("argument", ["--tuner_backend", "--tuner_backend=unsloth", "--use_ray"])
def test_where_swift_has_something_to_do_before_its_imports_they_are_left_to_it(fake: Path, argument: str) -> None:
    assert not launch(fake, argument)["early"]


def test_so_with_one_device_a_process(fake: Path) -> None:
    assert not launch(fake, SWIFT_SINGLE_DEVICE_MODE="1")["early"]


def test_what_cannot_be_imported_is_told_by_the_module_itself(fake: Path) -> None:
    (fake / "swift" / "pipelines.py").write_text("from swift import nothing_like_it")
    done = run(fake)
    assert done.returncode == 1
    assert "nothing_like_it" in done.stderr


def test_the_search_goes_on_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), quick_imports():
        importlib.import_module("no_such_module")
    assert gc.isenabled()
    gc.unfreeze()


def test_it_is_left_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with quick_imports():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
