"""Jobs in a cluster, as Airflow's tasks see them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowTaskTimeout

from medllm_ops.compute.job import Job, Place, job_id
from medllm_ops.compute.kubernetes.manifests import pod_of
from medllm_ops.compute.kubernetes.settings import ClusterSettings, read_settings
from medllm_ops.compute.spool import Spool
from medllm_ops.errors import MedllmError
from medllm_ops.operators import listener, pod
from medllm_ops.operators.base import JobOperator
from medllm_ops.operators.pod import JobPodOperator
from servers.cluster import ClusterServer, unknown_to_models

WAITS = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"


@dataclass
class Instance:
    """A task as it runs, and what the server says of it."""

    state: Any = "running"
    dag_id: str = "d"
    run_id: str = "r"
    task_id: str = "t"
    map_index: int = -1
    max_tries: int = 1
    try_number: int = 1
    stats_tags: dict[str, str] = field(default_factory=dict)

    def get_task_states(self, **_: Any) -> dict[str, dict[str, Any]]:
        return {"r": {"t": self.state}}


class Store(dict[str, Any]):
    """What a task remembers from one try to the next."""

    set = dict.__setitem__


def context_of(instance: Instance) -> Any:
    return {"ti": instance, "run_id": "r", "dag": SimpleNamespace(), "task_state_store": Store()}


@dataclass
class Work:
    job: Job

    def finish(self, place: Place) -> Any:
        return {"exit_code": place.wait(self.job).exit_code}


class WaitingOperator(JobOperator):
    def begin(self, place: Place) -> Work:
        directory = self.job_directory()
        return Work(place.submit(Job(job_id(directory), "key", (sys.executable, "-c", WAITS), directory, gpus=1)))


class Task(threading.Thread):
    """A try of a task, in a thread."""

    def __init__(self, home: Path, instance: Instance, **context: Any) -> None:
        super().__init__(daemon=True)
        self.operator = WaitingOperator(task_id="t", output_dir=str(home / "stage"), where="kubernetes")
        self.context = {**context_of(instance), **context}
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.operator.execute(self.context)
        except BaseException as error:  # noqa: BLE001  it is the test that judges it
            self.error = error

    def ended(self) -> Any:
        self.join(60)
        assert not self.is_alive(), "it still waits"
        if self.error:
            raise self.error
        return self.result


@pytest.fixture
def settings(configure: Callable[..., None]) -> ClusterSettings:
    return read_settings()


@pytest.fixture
def manifest(settings: ClusterSettings, home: Path) -> dict[str, Any]:
    return pod_of(Job("t-1", "key", ("python",), home / "job", gpus=1), settings)


def test_airflow_adds_its_labels_and_changes_nothing_else(manifest: dict[str, Any]) -> None:
    made = JobPodOperator(task_id="t", manifest=manifest).manifest(context_of(Instance()))
    assert unknown_to_models(made, "V1Pod") == ""
    labels = made["metadata"].pop("labels")
    assert (
        labels.items() >= {**manifest["metadata"].pop("labels"), "dag_id": "d", "run_id": "r", "task_id": "t"}.items()
    )
    # An empty list says what no list says, and hostNetwork false what it is by itself.
    for row, given in (
        (made["spec"], manifest["spec"]),
        (made["spec"]["containers"][0], manifest["spec"]["containers"][0]),
    ):
        for name in [name for name, value in row.items() if name not in given and not value]:
            del row[name]
    assert made == manifest


def test_a_dry_run_prints_the_pod_without_a_cluster(
    manifest: dict[str, Any], server: ClusterServer, capsys: pytest.CaptureFixture[str]
) -> None:
    JobPodOperator(task_id="t", manifest=manifest).dry_run()
    printed = capsys.readouterr().out
    assert "medllm_ops.compute.kubernetes.container" in printed
    assert "nvidia.com/gpu: '1'" in printed
    assert server.requests == []


def test_the_installations_hook_has_the_last_word(manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(pod: Any) -> None:
        pod.spec.priority_class_name = "by-policy"

    monkeypatch.setattr("airflow.providers.cncf.kubernetes.operators.pod.pod_mutation_hook", hook)
    assert JobPodOperator(task_id="t", manifest=manifest).manifest()["spec"]["priorityClassName"] == "by-policy"


def test_a_connection_of_airflow_is_a_login(
    configure: Callable[..., None], tmp_path: Path, server: ClusterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(connection="training")
    with pytest.raises(MedllmError, match=r"Airflow connection training"):
        pod.connect(read_settings())
    uri = f"kubernetes://?kube_config_path={tmp_path / 'kubeconfig'}"
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING", uri)
    assert pod.connect(read_settings()).pods("any") == []
    assert any("labelSelector" in path for path in server.requests)


@pytest.mark.usefixtures("configure")
class TestWhoseEnd:
    """A worker that stops leaves the pod alone; a user who gives the task up ends it."""

    def test_a_worker_that_stops_leaves_the_pod_and_the_next_try_finds_it(
        self, home: Path, server: ClusterServer
    ) -> None:
        first = Task(home, Instance())
        found = server.wait_for("Running")
        first.operator.on_kill()
        with pytest.raises(AirflowRescheduleException):
            first.ended()
        assert server.pod() is found
        second = Task(home, Instance(try_number=2))
        (home / "stage" / "job" / "go").touch()
        assert second.ended() == {"exit_code": 0}
        assert len(server.created) == 1

    def test_a_try_that_remembers_its_job_finds_it_too(self, home: Path, server: ClusterServer) -> None:
        first = Task(home, Instance())
        server.wait_for("Running")
        first.operator.on_kill()
        with pytest.raises(AirflowRescheduleException):
            first.ended()
        second = Task(home, Instance(try_number=2), task_state_store=first.context["task_state_store"])
        (home / "stage" / "job" / "go").touch()
        assert second.ended() == {"exit_code": 0}
        assert len(server.created) == 1

    @pytest.mark.parametrize("state", [None, "failed", "removed"])
    def test_a_task_that_a_user_gives_up_takes_its_pod_along(
        self, home: Path, server: ClusterServer, state: str | None, wait_until: Callable[..., None]
    ) -> None:
        instance = Instance()
        task = Task(home, instance)
        server.wait_for("Running")
        instance.state = state
        task.operator.on_kill()
        with pytest.raises(AirflowFailException):
            task.ended()
        wait_until(lambda: not server.pods)

    def test_a_task_that_is_marked_while_no_worker_watches_ends_its_pod(
        self, home: Path, server: ClusterServer, wait_until: Callable[..., None]
    ) -> None:
        task = Task(home, Instance())
        server.wait_for("Running")
        task.operator.on_kill()
        with pytest.raises(AirflowRescheduleException):
            task.ended()
        listener.on_task_instance_failed(None, Instance(), "set by hand")
        wait_until(lambda: not server.pods)
        wait_until(lambda: not Spool().running())

    def test_a_timeout_ends_the_pod(
        self, home: Path, server: ClusterServer, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
    ) -> None:
        def out_of_time(*_: Any) -> None:
            if any(pod.phase == "Running" for pod in server.pods.values()):
                raise AirflowTaskTimeout

        monkeypatch.setattr("medllm_ops.operators.watching.TaskWatch.look", out_of_time)
        with pytest.raises(AirflowTaskTimeout):
            Task(home, Instance()).ended()
        wait_until(lambda: not server.pods)
