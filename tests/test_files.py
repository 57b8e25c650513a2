import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops import files
from medllm_ops.errors import MedllmError
from medllm_ops.files import (
    code_hash,
    count_lines,
    file_hash,
    link_to,
    make_once,
    md5_of,
    read_json,
    read_json_lines,
    sha256_of,
    text_hash,
    whole_directory,
    work_beside,
    write_json,
    write_json_lines,
    write_whole,
)

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from medllm_ops.files import write_json_lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_json_lines(Path(sys.argv[1]), ({"row": number, "text": "x" * 100} for number in range(10_000)))
except OSError as error:
    sys.exit(error.errno)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from medllm_ops.files import make_once, write_json_lines
def make(folder):
    for number in range(3):
        write_json_lines(folder / f"{number}.jsonl", [{"row": row} for row in range(1000)])
        if sys.argv[2] == str(number):
            (folder / "half").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
make_once(Path(sys.argv[1]), "inputs", make)
"""
WRITER = """
import sys, time
from pathlib import Path
from medllm_ops.errors import MedllmError
from medllm_ops.files import whole_directory
end, made = time.monotonic() + 2, 0
while time.monotonic() < end or not made:
    try:
        with whole_directory(Path(sys.argv[1])) as folder:
            for name in "012":
                (folder / name).write_text(sys.argv[2])
    except MedllmError:
        continue
    made += 1
"""


def run_python(code: str, *arguments: object) -> int:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False).returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_is_as_it_was_when_its_writer_fails(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "sub" / "file"
    if before is not None:
        path.parent.mkdir()
        path.write_bytes(before)

    def fail() -> None:
        with write_whole(path) as file:
            file.write(b"half")
            file.flush()
            assert not path.exists() or path.read_bytes() == before
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == ({} if before is None else {"sub/file": before})


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    with write_whole(path) as file:
        file.write(b"new")
    assert contents(tmp_path) == {"file": b"new"}


def test_two_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    both = threading.Barrier(2, timeout=60)

    def write(content: bytes) -> None:
        with write_whole(path) as file:
            file.write(content)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, [b"one", b"two"]))
    assert list(contents(tmp_path).values()) in ([b"one"], [b"two"])


def test_nothing_half_stays_when_a_file_may_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert run_python(FULL_DISK, path) == errno.EFBIG
    assert contents(tmp_path) == {}
    path.write_bytes(b"old\n")
    assert run_python(FULL_DISK, path) == errno.EFBIG
    assert contents(tmp_path) == {"rows.jsonl": b"old\n"}


def test_nothing_half_stays_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'"):
        write_json(tmp_path / "file", {"a": 1})
    with pytest.raises(OSError, match="No space left"):
        make_once(tmp_path / "folder", "inputs", lambda folder: write_json(folder / "file", 1))
    with pytest.raises(OSError, match=r"No space left on device: '.*/folder'"):
        make_once(tmp_path / "folder", "inputs", lambda _folder: full(0))
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_left_that_was_killed_right_after_naming_a_folder_goes_with_the_next_call(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    assert make_once(folder, "inputs", lambda part: write_json(part / "file", 1))
    (tmp_path / ".folder.lock").touch()
    (tmp_path / ".folder.77.old").mkdir()
    assert not make_once(folder, "inputs", lambda part: write_json(part / "file", 2))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert read_json(folder / "file") == 1


def test_a_directory_is_as_it_was_when_its_writer_fails(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fail() -> None:
        with whole_directory(out) as folder:
            (folder / "half").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with whole_directory(out) as folder:
        (folder / "old").write_bytes(b"old")
    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path) == {"out/old": b"old"}
    with whole_directory(out) as folder:
        (folder / "new").write_bytes(b"new")
    assert contents(tmp_path) == {"out/new": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# The brackets: a name that means something to glob must not hide the leftovers.
@pytest.mark.parametrize("name", ["out", "out[1]*"])
@pytest.mark.parametrize("killed_after", [0, 2])
def test_a_retry_after_a_kill_gives_the_same_bytes_and_leaves_nothing_beside(
    tmp_path: Path, killed_after: int, name: str
) -> None:
    assert run_python(KILLED, tmp_path / "undisturbed" / name, "never") == 0
    out = tmp_path / "killed" / name
    assert run_python(KILLED, out, killed_after) == -signal.SIGKILL
    assert not out.exists()
    assert sorted(path.suffix for path in out.parent.iterdir()) == [".lock", ".part"]
    assert run_python(KILLED, out, "never") == 0
    assert contents(out.parent) == contents(tmp_path / "undisturbed")
    assert [path.name for path in out.parent.iterdir()] == [name]


@pytest.mark.parametrize("first", [whole_directory, work_beside])
def test_two_at_once_are_an_error_of_the_second_and_the_first_goes_on(
    tmp_path: Path, first: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    out = tmp_path / "out"
    with first(out) as folder:
        (folder / "file").write_bytes(b"first")
        with pytest.raises(MedllmError, match=f"{out} is being made by another process: wait"), first(out):
            pass
        assert (folder / "file").read_bytes() == b"first"
    with first(out):
        pass
    assert not list(tmp_path.glob(".*"))


def test_writers_at_once_hinder_each_other_in_words_only_and_a_reader_finds_no_half_directory(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", 0
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, out, str(number)]) for number in range(3)]
    while any(writer.poll() is None for writer in writers):
        with suppress(FileNotFoundError):  # the old one has just made way
            descriptor = os.open(out, os.O_RDONLY)
            try:
                is_whole = {entry.name for entry in os.scandir(descriptor)} == {"0", "1", "2"}
                # One that has lost files is an old one: it has lost its name before.
                assert is_whole or not os.path.samestat(os.fstat(descriptor), out.stat())
                seen += is_whole
            finally:
                os.close(descriptor)
    assert seen > 0
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_old_directory_that_a_killed_writer_had_moved_away_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out.123.old").mkdir()
    (tmp_path / ".out.123.old" / "file").touch()
    (tmp_path / ".out.123.part").touch()
    (tmp_path / ".outer.123.part").touch()
    with whole_directory(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".outer.123.part", "out"]


def test_an_older_directory_comes_back_where_its_successor_was_killed_between_two_renames(tmp_path: Path) -> None:
    (tmp_path / ".out.123.old").mkdir()
    (tmp_path / ".out.123.old" / "file").write_bytes(b"old")
    with pytest.raises(KeyError), whole_directory(tmp_path / "out"):
        raise KeyError
    assert contents(tmp_path) == {"out/file": b"old"}


def test_a_folder_is_made_once_from_equal_inputs_and_anew_from_others(tmp_path: Path) -> None:
    out, made = tmp_path / "out", []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / str(len(made))).touch()

    assert make_once(out, {"sample": 1}, make)
    assert not make_once(out, {"sample": 1}, make)
    assert make_once(out, {"sample": 2}, make)
    assert len(made) == 2
    assert sorted(contents(out)) == ["2", "key.json"]
    (out / "key.json").unlink()
    with pytest.raises(MedllmError, match="would be lost"):
        make_once(out, {"sample": 2}, make)


def test_a_folder_with_something_else_in_it_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"years of work")
    (tmp_path / "a file").touch()
    for out in (tmp_path, tmp_path / "a file"):
        with pytest.raises(MedllmError, match="name another folder"):
            make_once(out, "inputs", lambda _folder: pytest.fail("must not be called"))
    assert sorted(contents(tmp_path)) == ["a file", "thesis.docx"]


def test_an_empty_folder_can_be_filled_also_as_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert make_once(Path(), "inputs", lambda folder: write_json(folder / "file", 1))
    assert sorted(contents(tmp_path)) == ["empty/file", "empty/key.json"]


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers(-(2**53), 2**53)), max_size=5))
def test_json_lines_are_read_back_whatever_their_text(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str | int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis.jsonl"
    assert write_json_lines(path, rows) == len(rows) == count_lines(path)
    assert list(read_json_lines(path)) == rows


def test_a_line_separator_of_unicode_does_not_end_a_line(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u2029c\u0085d\ne\r\n"}]
    assert write_json_lines(tmp_path / "file", rows) == count_lines(tmp_path / "file") == 1
    assert list(read_json_lines(tmp_path / "file")) == rows


def test_rows_that_break_off_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        write_json_lines(tmp_path / "file", rows())
    assert list(tmp_path.iterdir()) == []


def test_hashes_stay_the_same_for_ever(tmp_path: Path) -> None:
    # Sides of the split and samples depend on these for years.
    assert text_hash("") == "99aa06d3014798d86001c324468d497f"
    assert text_hash("针灸") == "5eb065e368ca311508ae3458eb1b14d6"
    (tmp_path / "text").write_text("针灸", encoding="utf-8")
    assert file_hash(tmp_path / "text") == text_hash("针灸")
    assert text_hash("\ud800") != text_hash("?")  # what a broken file brings must not stop a run


def test_the_sums_that_publishers_give(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # RFC 1321, appendix A.5; FIPS 180-2, appendix B.1
    assert md5_of(tmp_path / "file") == "900150983cd24fb0d6963f7d28e17f72"
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_link_changes_its_target_and_is_never_written_over_something_else(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    for target in ("1", "2"):
        link_to(link, Path(target))
        assert link.readlink() == Path(target)
    link.unlink()
    link.mkdir()
    with pytest.raises(MedllmError, match="must be a link"):
        link_to(link, Path("3"))
    assert link.is_dir()


@pytest.mark.parametrize(("name", "counts"), [("rule.py", True), ("words/names.txt", True), ("rule.pyc", False)])
def test_the_lists_of_words_are_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: bool
) -> None:
    monkeypatch.setattr(files, "__file__", str(tmp_path / "files.py"))
    path = tmp_path / "curation" / name
    path.parent.mkdir(parents=True)
    path.write_text("one")
    before = code_hash.__wrapped__("curation")
    path.write_text("two")
    assert (code_hash.__wrapped__("curation") != before) is counts
