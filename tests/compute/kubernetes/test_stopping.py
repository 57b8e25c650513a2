"""Jobs in pods that are stopped, or whose task was cleared: nothing of them is left, and nothing of another goes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from compute.kubernetes.waiting import WAITS, Waiting, go
from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.owner import TaskOwner
from medllm_ops.compute.watched import write_stopped
from servers.base import Fault
from servers.cluster import ClusterServer

Make = Callable[..., Job]

pytestmark = pytest.mark.usefixtures("configure")


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
