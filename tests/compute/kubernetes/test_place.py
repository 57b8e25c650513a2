"""Jobs as pods, against an API server whose pods are processes of this host: what becomes of them, come what may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from compute.kubernetes.waiting import WAITS, Waiting, go
from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.kubernetes import follow, patience
from medllm_ops.compute.kubernetes.manifests import name_of
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.errors import MedllmError
from servers.base import Fault
from servers.cluster import ClusterServer

Make = Callable[..., Job]
# Goes on where an earlier start stood, as a training does.
RESUMES = "import pathlib\npath = pathlib.Path('starts')\nwith path.open('a') as file: file.write('x')\n" + WAITS

pytestmark = pytest.mark.usefixtures("configure")


@pytest.mark.parametrize("ask_seconds", [0.1, 60.0])
def test_a_job_runs_in_a_pod_and_leaves_its_files_its_log_and_no_pod(
    server: ClusterServer,
    make_job: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    ask_seconds: float,
) -> None:
    """Also where the job has ended before its pod was looked at."""
    monkeypatch.setattr(patience, "ASK_SECONDS", ask_seconds)
    monkeypatch.setattr(follow, "CLOSE_SECONDS", 30.0)
    caplog.set_level(logging.INFO)
    job = make_job("import os; print('in', os.environ['MEDLLM_HOST'])", gpus=1)
    place = KubernetesPlace()
    assert place.run(job).exit_code == 0
    (created,) = server.created
    name = created.removeprefix("pods/")
    assert f"in {name}" in job.log.read_text()
    assert f"in {name}" in caplog.messages
    assert server.pods == {}
    entry = place.spool.find(job.id)
    assert entry
    assert (entry.state, entry.host) == ("ended", name)


def test_a_job_that_fails_says_why_and_its_pod_stays_until_the_next_try(server: ClusterServer, make_job: Make) -> None:
    with pytest.raises(JobError, match=r"(?s)exit code 3.*out of ideas"):
        KubernetesPlace().run(make_job("print('out of ideas'); raise SystemExit(3)"))
    server.wait_for("Failed")
    assert KubernetesPlace().run(make_job("pass", key="another")).exit_code == 0
    assert server.pods == {}


def test_who_comes_back_finds_the_same_pod(server: ClusterServer, make_job: Make) -> None:
    owner = TaskOwner("d", "r", "t", -1, 1)
    first = Waiting(make_job(WAITS), owner)
    server.wait_for("Running")
    first.kill()
    assert isinstance(first.error, ConnectionAbortedError)
    second = Waiting(make_job(WAITS), owner)
    go(second.job)
    assert second.ended().exit_code == 0
    assert len(server.created) == 1


def test_what_has_ended_well_is_the_result_of_another_run_of_its_task_too(
    server: ClusterServer, make_job: Make
) -> None:
    for run in ("one", "two"):
        assert Waiting(make_job("pass"), TaskOwner("d", run, "t", -1, 1)).ended().exit_code == 0
    assert len(server.created) == 1


def test_a_crash_between_creating_and_noting_finds_the_pod_again(server: ClusterServer, make_job: Make) -> None:
    job = make_job(WAITS)
    # The pod is made, and the answer is lost; the repetition is told that it exists.
    original = server.answer

    def lost_once(request: object) -> object:
        answer = original(request)  # type: ignore[arg-type]
        if getattr(request, "method", "") == "POST":
            server.answer = original  # type: ignore[method-assign]
            return type(answer)(b"{}", "application/json", 500)
        return answer

    server.answer = lost_once  # type: ignore[method-assign, assignment]
    waiting = Waiting(job)
    server.wait_for("Running")
    go(job)
    assert waiting.ended().exit_code == 0
    assert len(server.created) == 1


@pytest.mark.parametrize("how", ["evict", "drain"])
def test_a_pod_that_is_taken_away_is_replaced_and_goes_on(
    server: ClusterServer, make_job: Make, how: str, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    waiting = Waiting(make_job(RESUMES))
    starts = waiting.job.directory / "starts"
    wait_until(lambda: starts.is_file() and starts.read_text() == "x")
    getattr(server, how)(server.pod())
    wait_until(lambda: starts.read_text() == "xx")
    go(waiting.job)
    assert waiting.ended().exit_code == 0
    assert server.pods == {}


def test_a_pod_that_is_taken_away_too_often_fails_and_the_next_try_goes_on(
    server: ClusterServer, make_job: Make, configure: Callable[..., None], wait_until: Callable[..., None]
) -> None:
    configure(replacements=0)
    waiting = Waiting(make_job(RESUMES))
    starts = waiting.job.directory / "starts"
    wait_until(lambda: starts.is_file() and starts.read_text() == "x")
    server.evict(server.pod())
    with pytest.raises(JobError, match=r"took pod .* away .Evicted: The node was low on resource") as caught:
        waiting.ended()
    assert caught.value.retry
    go(waiting.job)
    assert KubernetesPlace().run(waiting.job).exit_code == 0
    assert starts.read_text() == "xx"


def test_a_pod_without_memory_fails_and_is_not_retried(server: ClusterServer, make_job: Make) -> None:
    waiting = Waiting(make_job(WAITS))
    server.kill_for_memory(server.wait_for("Running"))
    with pytest.raises(JobError, match=r"was killed for its memory: raise memory") as caught:
        waiting.ended()
    assert (caught.value.cause, caught.value.retry) == ("memory", False)
    assert server.pods == {}


def test_a_pod_that_is_killed_fails_and_may_be_retried(
    server: ClusterServer, make_job: Make, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(patience, "LATE_SECONDS", 0.2)
    waiting = Waiting(make_job(WAITS))
    pod = server.wait_for("Running")
    wait_until(lambda: any(line.endswith(b" waits\n") for line in pod.lines))
    pod.kill()
    with pytest.raises(JobError, match=r"(?s)exit code 137.*waits") as caught:
        waiting.ended()
    assert caught.value.retry


def test_errors_of_the_api_server_are_survived(server: ClusterServer, make_job: Make) -> None:
    server.fail("POST", Fault(status=500), times=2)
    server.fail("labelSelector", Fault(status=503), times=2)
    waiting = Waiting(make_job(WAITS))
    server.wait_for("Running")
    # Longer than a call is repeated: the job itself shows that it lives.
    server.fail("labelSelector", Fault(status=500), times=12)
    server.fail("labelSelector", Fault(status=410), times=0)
    go(waiting.job)
    assert waiting.ended().exit_code == 0
    assert len(server.created) == 1


def test_a_task_comes_back_while_the_api_server_does_not_answer(server: ClusterServer, make_job: Make) -> None:
    first = Waiting(make_job(WAITS))
    server.wait_for("Running")
    while not first.job.supervisor():
        first.join(0.02)
    first.kill()
    server.fail("labelSelector", Fault(status=503), times=None)
    second = Waiting(first.job)
    second.join(0.5)
    go(first.job)
    while not first.job.result():
        second.join(0.02)
    server.heal()
    assert second.ended().exit_code == 0
    assert len(server.created) == 1


def test_a_lost_log_stream_is_opened_again(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    caplog.set_level(logging.INFO)
    server.fail("follow=True", Fault(cut=40))
    waiting = Waiting(make_job("print('the first')\n" + WAITS + "print('the last')"))
    wait_until(lambda: "waits" in caplog.messages)
    asked = len(server.requests)
    server.lose_logs()
    wait_until(lambda: any("follow=True" in path for path in server.requests[asked:]))
    go(waiting.job)
    assert waiting.ended().exit_code == 0
    wait_until(lambda: "the last" in caplog.messages)
    assert [caplog.messages.count(line) for line in ("the first", "waits", "the last")] == [1, 1, 1]


def test_several_nodes_go_on_after_somebody_has_deleted_their_pods(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting(make_job(WAITS, nodes=2))
    server.wait_for("Running", prefix=f"{name_of(waiting.job.id)}-0")
    for pod in list(server.pods.values()):
        server.drain(pod)
    go(waiting.job)
    assert waiting.ended().exit_code == 0
    assert "its pod was deleted; it goes on in another pod" in caplog.text


def test_a_folder_that_pods_do_not_see_is_refused(tmp_path: Path) -> None:
    job = Job("id", "key", ("true",), tmp_path / "elsewhere")
    with pytest.raises(MedllmError, match=r"pods cannot write into .*elsewhere: what they mount to write is"):
        KubernetesPlace().submit(job)


def test_missing_rights_are_named(server: ClusterServer, make_job: Make) -> None:
    server.fail("POST", Fault(status=403))
    with pytest.raises(MedllmError, match=r"did not create the Pod .*docs/operations/kubernetes.md has the rights"):
        KubernetesPlace().run(make_job("pass"))
