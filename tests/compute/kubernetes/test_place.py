"""Jobs as pods, against an API server whose pods are processes of this host: what becomes of them, come what may."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm_ops.compute.job import Job, JobError, JobResult
from medllm_ops.compute.kubernetes import follow, patience
from medllm_ops.compute.kubernetes.manifests import name_of
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.watched import write_stopped
from medllm_ops.errors import MedllmError
from servers.base import Fault
from servers.cluster import ClusterServer

Make = Callable[..., Job]
# Waits until the test has made the file; says so first.
WAITS = "import pathlib, time\nprint('waits', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"
# Goes on where an earlier start stood, as a training does.
RESUMES = "import pathlib\npath = pathlib.Path('starts')\nwith path.open('a') as file: file.write('x')\n" + WAITS

pytestmark = pytest.mark.usefixtures("configure")


class Waiting(threading.Thread):
    """Somebody who waits for a job, in a thread; ``killed`` as a worker is: without another word."""

    def __init__(self, job: Job, owner: TaskOwner | None = None) -> None:
        super().__init__(daemon=True)
        self.job = job
        self.result: JobResult | None = None
        self.error: Exception | None = None
        self._killed = threading.Event()
        self.place = KubernetesPlace(owner, self._look)
        self.start()

    def run(self) -> None:
        try:
            self.result = self.place.run(self.job)
        except Exception as error:  # noqa: BLE001  it is the test that judges it
            self.error = error

    def _look(self) -> None:
        if self._killed.is_set():
            raise ConnectionAbortedError("the worker is gone")

    def kill(self) -> None:
        self._killed.set()
        self.join(30)

    def ended(self) -> JobResult:
        self.join(60)
        assert not self.is_alive(), "it still waits"
        if self.error:
            raise self.error
        assert self.result
        return self.result


def go(job: Job) -> None:
    (job.directory / "go").touch()


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


def test_what_keeps_a_pod_from_starting_is_told(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    caplog.set_level(logging.INFO)
    holder = Waiting(make_job(WAITS, "holder", gpus=1))
    server.wait_for("Running")
    waiting = Waiting(make_job("pass", gpus=1))
    wait_until(lambda: "Insufficient nvidia.com/gpu" in caplog.text)
    assert "Insufficient" in (waiting.job.directory / "waiting.txt").read_text()
    go(holder.job)
    assert waiting.ended().exit_code == 0
    assert not (waiting.job.directory / "waiting.txt").exists()


def test_a_job_that_ends_before_its_pod_is_looked_at_again_waits_for_nothing_any_more(
    server: ClusterServer, make_job: Make, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Waiting(make_job(WAITS, "holder", gpus=1))
    server.wait_for("Running")
    monkeypatch.setattr(patience, "ASK_SECONDS", 3600.0)
    waiting = Waiting(make_job("pass", gpus=1))
    wait_until((waiting.job.directory / "waiting.txt").exists)
    go(holder.job)
    assert waiting.ended().exit_code == 0
    assert not (waiting.job.directory / "waiting.txt").exists()


def test_the_pods_of_several_nodes_are_waited_for_and_not_taken_for_deleted(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    caplog.set_level(logging.INFO)
    server.quota = "gpus=2"
    waiting = Waiting(make_job("pass", nodes=2))
    wait_until(lambda: "2 of 2 pods to be made; FailedCreate: pods are forbidden: exceeded quota" in caplog.text)
    server.quota = ""
    assert waiting.ended().exit_code == 0
    assert [name.partition("/")[0] for name in server.created] == ["services", "jobs"]
    assert (server.pods, server.others) == ({}, {})


def test_a_job_that_a_queue_suspends_waits_and_goes_on_when_it_was_put_back(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None]
) -> None:
    caplog.set_level(logging.INFO)
    server.queueing = True
    waiting = Waiting(make_job(WAITS, nodes=2))
    wait_until(lambda: "its Job is suspended: it waits in a queue of the cluster" in caplog.text)
    server.queueing = False
    server.wait_for("Running", prefix=f"{name_of(waiting.job.id)}-0")
    wait_until(lambda: waiting.job.supervisor() is not None)
    server.queueing = True
    wait_until(
        lambda: "the cluster suspended its Job, and took its pods away; it goes on in another pod" in caplog.text
    )
    server.queueing = False
    go(waiting.job)
    assert waiting.ended().exit_code == 0
    assert [name.partition("/")[0] for name in server.created] == ["services", "jobs"] * 2


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image": "registry.example/unknown:1"}, "ImagePullBackOff.*not found"),
        ({"volumes": [{"claim": "medllm", "path": "HOME"}, {"claim": "models", "path": "/m"}]}, 'claim "models" not'),
        ({"secrets": {"HF_TOKEN": {"secret": "hub", "key": "token"}}}, "CreateContainerConfigError"),
    ],
)
def test_a_pod_that_does_not_start_in_time_is_given_up(
    server: ClusterServer,
    home: Path,
    make_job: Make,
    configure: Callable[..., None],
    settings: dict[str, object],
    said: str,
) -> None:
    for volume in settings.get("volumes", []):  # type: ignore[attr-defined]
        volume["path"] = str(home) if volume["path"] == "HOME" else volume["path"]
    configure(start_minutes=0.01, **settings)
    with pytest.raises(JobError, match=rf"(?s)did not start for 0.01 minutes.*{said}"):
        KubernetesPlace().run(make_job("pass"))
    assert server.pods == {}


def test_a_pod_without_room_is_given_up_in_the_end(make_job: Make, configure: Callable[..., None]) -> None:
    configure(node_wait_minutes=0.01)
    with pytest.raises(JobError, match=r"no node had room for 0.01 minutes.*Insufficient"):
        KubernetesPlace().run(make_job("pass", gpus=8))


def test_stopping_ends_the_job_and_its_pod(server: ClusterServer, make_job: Make) -> None:
    waiting = Waiting(make_job(WAITS))
    server.wait_for("Running")
    KubernetesPlace().stop(waiting.job.directory)
    assert server.pods == {}
    with pytest.raises(JobError, match=r"it was stopped") as caught:
        waiting.ended()
    assert not caught.value.retry


def test_stopping_a_pod_that_waits_for_a_node_leaves_nothing(server: ClusterServer, make_job: Make) -> None:
    waiting = Waiting(make_job("pass", gpus=8))
    server.wait_for("Pending")
    KubernetesPlace().ask_to_stop(waiting.job)
    with pytest.raises(JobError, match=r"it was stopped"):
        waiting.ended()
    assert server.pods == {}


def test_a_pod_that_was_made_after_its_job_was_stopped_goes_too(server: ClusterServer, make_job: Make) -> None:
    waiting = Waiting(make_job("pass", gpus=8))
    server.wait_for("Pending")
    write_stopped(waiting.job)
    with pytest.raises(JobError, match=r"it was stopped"):
        waiting.ended()
    assert server.pods == {}


def test_a_job_is_stopped_through_the_volume_where_the_cluster_is_out_of_reach(
    server: ClusterServer, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting(make_job(WAITS))
    server.wait_for("Running")
    server.fail("DELETE", Fault(status=403))
    KubernetesPlace().ask_to_stop(waiting.job)
    assert "its pod ends by itself" in caplog.text
    with pytest.raises(JobError, match=r"it was stopped"):
        waiting.ended()


def test_a_cleared_task_gets_a_pod_of_its_own(server: ClusterServer, make_job: Make) -> None:
    first = Waiting(make_job(WAITS), TaskOwner("d", "r", "t", -1, 1))
    server.wait_for("Running")
    second = Waiting(make_job("pass"), TaskOwner("d", "r", "t", -1, 3))
    assert second.ended().exit_code == 0
    with pytest.raises(JobError, match=r"stopped|without a result"):
        first.ended()
    assert len(server.created) == 2
    assert server.pods == {}


@pytest.mark.parametrize("code", [WAITS, "pass"], ids=["running", "ended"])
def test_who_looks_again_after_its_task_was_cleared_starts_nothing_and_takes_no_result_of_another(
    server: ClusterServer, make_job: Make, code: str
) -> None:
    first = Waiting(make_job(WAITS), TaskOwner("d", "r", "t", -1, 1))
    server.wait_for("Running")
    away, back = threading.Event(), threading.Event()

    def be_away() -> None:
        away.set()
        back.wait(60)

    first.place.watch = be_away
    assert away.wait(60)
    second = Waiting(make_job(code), TaskOwner("d", "r", "t", -1, 3))
    if code == WAITS:
        server.wait_for("Running")
    else:
        assert second.ended().exit_code == 0
    back.set()
    with pytest.raises(JobError, match="stopped"):
        first.ended()
    go(second.job)
    assert second.ended().exit_code == 0
    assert len(server.created) == 2
    assert server.pods == {}


def test_a_folder_that_pods_do_not_see_is_refused(tmp_path: Path) -> None:
    job = Job("id", "key", ("true",), tmp_path / "elsewhere")
    with pytest.raises(MedllmError, match=r"pods cannot write into .*elsewhere: what they mount to write is"):
        KubernetesPlace().submit(job)


def test_missing_rights_are_named(server: ClusterServer, make_job: Make) -> None:
    server.fail("POST", Fault(status=403))
    with pytest.raises(MedllmError, match=r"did not create the Pod .*docs/operations/kubernetes.md has the rights"):
        KubernetesPlace().run(make_job("pass"))
