from pathlib import Path

import pytest

from medllm_ops.compute.job import Job, explain_exit_code, job_id
from medllm_ops.compute.local import LocalPlace
from medllm_ops.compute.places import place_for
from medllm_ops.errors import MedllmError


def test_a_job_has_the_same_id_on_every_try_and_another_one_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.chdir(tmp_path)
    assert job_id(Path("disk/sft/job")) == job_id(tmp_path / "link" / "sft" / "job")
    assert job_id(tmp_path / "disk" / "sft" / "job") == job_id(Path("link/sft/job"))
    assert job_id(Path("a/sft/job")) != job_id(Path("b/sft/job"))
    assert job_id(Path("a/sft/job")).startswith("sft-")


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    job = Job("id", "key", ("/bin/swift", "sft"), tmp_path / "job", {"A": "针"})
    job.write()
    assert Job.read(tmp_path / "job") == job
    assert job.result() is None
    assert job.supervisor() is None


def test_the_tail_of_a_log_is_short_whatever_is_in_it(tmp_path: Path) -> None:
    job = Job("id", "key", (), tmp_path)
    assert job.log_tail() == "(no log)"
    job.log.write_bytes(b"\xff" * 100_000 + b"\n" + b"".join(b"line %d\n" % number for number in range(100)))
    assert job.log_tail(2) == "line 98\nline 99"
    job.log.write_bytes(b"\xff" * 100_000)
    assert len(job.log_tail()) == 16_384


def test_an_exit_code_is_explained() -> None:
    assert (
        explain_exit_code(247) == "exit code 247: a child process was killed (SIGKILL: often the kernel, out of memory)"
    )
    assert explain_exit_code(99) == "exit code 99: unknown"


def test_a_place_is_found_by_name_or_the_names_are_told() -> None:
    assert isinstance(place_for("local"), LocalPlace)
    with pytest.raises(MedllmError, match="no place 'moon' to run jobs in: it is one of local"):
        place_for("moon")
