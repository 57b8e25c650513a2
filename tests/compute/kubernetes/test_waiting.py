"""Pods that cannot start yet: what they wait for is told, and some are given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from compute.kubernetes.waiting import WAITS, Waiting, go
from medllm_ops.compute.job import Job, JobError
from medllm_ops.compute.kubernetes import patience
from medllm_ops.compute.kubernetes.manifests import name_of
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from servers.cluster import ClusterServer

Make = Callable[..., Job]

pytestmark = pytest.mark.usefixtures("configure")


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
