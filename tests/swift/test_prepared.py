"""A process that is started early does nothing before its word, and does not outlive who started it."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from medllm_ops.swift.prepared import Processes

WAITS = """
import pathlib, sys
from medllm_ops.swift.prepared import wait_for_word
pathlib.Path(sys.argv[1], "ready").touch()
if not wait_for_word():
    sys.exit(9)
pathlib.Path(sys.argv[1], "begun").touch()
print("worked")
sys.exit(3)
"""
STARTS = """
import os, pathlib, sys, time
from medllm_ops.swift.prepared import Processes
folder = pathlib.Path(sys.argv[1])
child = Processes().prepare([sys.executable, "-c", sys.argv[2], str(folder)], {}, folder / "log")
while not (folder / "ready").exists():
    time.sleep(0.02)
(folder / "pid").write_text(str(child._child.pid))
os._exit(0)
"""


def until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_it_waits_for_its_word_and_tells_its_exit_code(tmp_path: Path) -> None:
    child = Processes().prepare([sys.executable, "-c", WAITS, str(tmp_path)], {}, tmp_path / "logs" / "log")
    until((tmp_path / "ready").exists)
    assert not (tmp_path / "begun").exists()
    assert child.finish() == 3
    assert (tmp_path / "begun").exists()
    child.end()
    assert (tmp_path / "logs" / "log").read_text() == "worked\n"


def test_it_is_ended_without_having_begun(tmp_path: Path) -> None:
    child = Processes().prepare([sys.executable, "-c", WAITS, str(tmp_path)], {}, tmp_path / "log")
    until((tmp_path / "ready").exists)
    child.end()
    child.end()
    assert not (tmp_path / "begun").exists()


def test_one_that_ended_before_its_turn_tells_so(tmp_path: Path) -> None:
    child = Processes().prepare([sys.executable, "-c", "import sys; sys.exit(7)"], {}, tmp_path / "log")
    # Its word finds nobody, or is not read.
    assert child.finish() == 7


def test_it_ends_by_itself_when_who_started_it_was_killed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", STARTS, str(tmp_path), WAITS], check=True)
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "begun").exists()


def test_a_command_runs_to_its_end_with_its_environment(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import os, sys; print(os.environ['WORD']); sys.exit(4)"]
    assert Processes().run(argv, {"WORD": "here"}, tmp_path / "logs" / "log") == 4
    assert (tmp_path / "logs" / "log").read_text() == "here\n"
