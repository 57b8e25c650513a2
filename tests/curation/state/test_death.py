"""A process that is killed at any moment of taking a segment in: whoever opens the state next ends with the same."""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, pickle, shutil, signal, sqlite3, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import daft  # before the forks, which then need not load it
import pyarrow as pa
from conftest import SETTINGS, DUPLICATES, listing, row, text, write_segment
from medllm_ops.curation.duplicates.signature_folder import SignatureFolder
from medllm_ops.curation.state.state import CurationState

folder, every, first_event = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
WATCHED = ("os.", "shutil.", "open", "sqlite3.connect")
# All but three rows of the first segment die, by corrections and deletions, so that it is written anew; a bridge.
FIRST = [row(f"r{n}", text(n % 5, n // 5 * 3), "ab"[n % 2]) for n in range(10)]
# When r2 is corrected, the one that equals it comes to be kept, which is no row of the second segment.
FIRST += [row("s1", text(2, 0)), row("x", "", drop=("clean", "too short"))]
SECOND = [row(f"r{n}", text((n + 1) % 5, 3)) for n in range(2, 8)] + [row("new", text(0, 1)), row("two", text(0, 2))]
THIRD = [row("r0", text(4, 0)), row("r9", text(1, 3)), row("late", text(3, 1)), row("later", text(3, 2))]
GONE = ["r8", "x"]


# A killed process loses nothing that it wrote, so nothing waits for the disk.
os.fsync = lambda handle: None
connect = sqlite3.connect


def quick(*arguments, **more):
    database = connect(*arguments, **more)
    database.execute("PRAGMA synchronous = OFF")
    return database


sqlite3.connect = quick


class Events:
    def __init__(self, last=None):
        self.count, self.last = 0, last

    def happen(self, *_):
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(self, *arguments, **more):
        database = self.connect(*arguments, **more)
        database.set_trace_callback(self.happen)
        return database

    def watch(self):
        self.connect, sqlite3.connect = sqlite3.connect, self.traced
        sys.addaudithook(lambda event, _: event.startswith(WATCHED) and self.happen())


def forked(work):
    process = os.fork()
    if not process:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def begin():
    with CurationState.open(folder / "base", SETTINGS) as state:
        write_segment(state.next_segment, FIRST)
        state.absorb()
        write_segment(state.next_segment, SECOND, GONE)


def take(name, events):
    events.watch()
    with CurationState.open(folder / name, SETTINGS):
        pass
    (folder / f"{name}.count").write_text(str(events.count))


def tell(name):
    with CurationState.open(folder / name, SETTINGS) as state:
        told = [listing(state), [(some.segment.name, some.rows.to_pylist()) for some in state.kept()]]
        files = sorted(str(path.relative_to(folder / name)) for path in (folder / name).rglob("*"))
        write_segment(state.next_segment, THIRD)
        state.absorb()
        told += [files, listing(state)]
    (signatures,) = (folder / name / "signatures").iterdir()
    ids = pa.array([f"r{n}" for n in range(10)] + ["new", "two", "late"], pa.string())
    told.append(SignatureFolder(signatures, DUPLICATES).by_id(ids).to_pylist())
    (folder / f"{name}.told").write_bytes(pickle.dumps(told))


assert forked(begin) == 0
shutil.copytree(folder / "base", folder / "whole")
assert forked(lambda: take("whole", Events())) == 0
assert (folder / "whole/segments/000001.1").is_dir()
assert forked(lambda: tell("whole")) == 0
count = int((folder / "whole.count").read_text())
for last in range(first_event, count, every):
    shutil.copytree(folder / "base", folder / "killed")
    assert forked(lambda: take("killed", Events(last))) == signal.SIGKILL, last
    assert forked(lambda: tell("killed")) == 0, last
    assert (folder / "killed.told").read_bytes() == (folder / "whole.told").read_bytes(), last
    shutil.rmtree(folder / "killed")
print(count)
"""


def kill(folder: Path, every: int, first: int) -> int:
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder), str(every), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def test_killed_at_some_moments(tmp_path: Path) -> None:
    assert kill(tmp_path, 97, 5) > 500


@pytest.mark.slow
def test_killed_at_many_moments(tmp_path: Path) -> None:
    kill(tmp_path, 5, 1)
