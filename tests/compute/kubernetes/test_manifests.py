"""What is sent to the cluster, held against the client's own models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.compute.job import Job
from medllm_ops.compute.kubernetes.manifests import name_of, pod_of, several_of
from medllm_ops.compute.kubernetes.settings import ClusterSettings, read_settings
from medllm_ops.compute.owner import TaskOwner
from servers.cluster import unknown_to_models

OWNER = TaskOwner("medllm_train", "manual__2026-11-24T10:00:00+00:00", "self_cognition", -1, 1)
JOB = Job(OWNER.job_id("key"), "key", ("python",), Path("/srv/medllm/runs/r/job"), gpus=2, owner=OWNER)


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", "/srv/medllm")


@pytest.fixture
def settings(repository: Path) -> ClusterSettings:
    """Everything that can be set."""
    changes: dict[str, Any] = {
        "image_pull_secrets": ["registry-login"],
        "volumes": [
            {"claim": "medllm", "path": "/srv/medllm"},
            {"claim": "models", "path": "/models", "read_only": True, "sub_path": "qwen"},
            {"claim": "models", "path": "/more", "sub_path": "more"},
        ],
        "node_selector": {"nvidia.com/gpu.product": "A100"},
        "runtime_class": "nvidia",
        "priority_class": "training",
        "labels": {"kueue.x-k8s.io/queue-name": "training"},
        "annotations": {"a": "b"},
        "environment": {"NCCL_DEBUG": "WARN"},
        "secrets": {"HF_TOKEN": {"secret": "hub", "key": "token"}},
    }
    shipped = read_settings(repository / "include" / "kubernetes" / "cluster.yaml")
    return ClusterSettings.model_validate({**shipped.model_dump(), **changes})


def test_a_pod_is_what_the_clients_models_know(settings: ClusterSettings) -> None:
    assert unknown_to_models(pod_of(JOB, settings), "V1Pod") == ""


def test_several_nodes_are_what_the_clients_models_know(settings: ClusterSettings) -> None:
    service, job = several_of(replace(JOB, nodes=4), pod_of(JOB, settings))
    assert unknown_to_models(service, "V1Service") == ""
    assert unknown_to_models(job, "V1Job") == ""


@pytest.mark.parametrize("change", [{"speck": {}}, {"metadata": {"name": "a", "lables": {}}}, {"kind": 3}])
def test_what_they_do_not_know_is_found(settings: ClusterSettings, change: dict[str, Any]) -> None:
    assert unknown_to_models({**pod_of(JOB, settings), **change}, "V1Pod")


def test_a_pod_has_all_that_the_settings_say(settings: ClusterSettings) -> None:
    pod = pod_of(JOB, settings)
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2", "memory": "64Gi"}
    assert container["resources"]["requests"] == {"memory": "64Gi", "cpu": "8"}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/models"]["readOnly"]
    assert mounts["/more"]["subPath"] == "more"
    assert mounts["/models"]["name"] == mounts["/more"]["name"]
    memory = next(volume for volume in spec["volumes"] if volume["name"] == mounts["/dev/shm"]["name"])
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert len(spec["volumes"]) == 3
    env = {item["name"]: item for item in container["env"]}
    assert env["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}
    assert (env["MEDLLM_HOME"]["value"], env["NCCL_DEBUG"]["value"]) == ("/srv/medllm", "WARN")
    assert spec["terminationGracePeriodSeconds"] == 60
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("medllm-job", False)
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["imagePullSecrets"] == [{"name": "registry-login"}]
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"


def test_a_job_without_gpus_asks_for_none(settings: ClusterSettings) -> None:
    resources = pod_of(replace(JOB, gpus=0), settings)["spec"]["containers"][0]["resources"]
    assert "nvidia.com/gpu" not in resources["limits"]


def test_several_nodes_meet_at_the_first(settings: ClusterSettings) -> None:
    service, job = several_of(replace(JOB, nodes=4), pod_of(JOB, settings))
    name = name_of(JOB.id)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (
        "Indexed",
        4,
        4,
        0,
    )
    env = {item["name"]: item.get("value") for item in spec["template"]["spec"]["containers"][0]["env"]}
    assert (env["MEDLLM_NODES"], env["MEDLLM_MASTER"]) == ("4", f"{name}-0.{name}.medllm.svc")
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]


@given(st.text(min_size=1, max_size=120))
def test_any_id_makes_a_name_that_leaves_room_for_the_pods_of_an_indexed_job(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name_of(text))
    assert len(name_of(text)) <= 50


def test_ids_that_look_alike_have_other_names() -> None:
    assert name_of("merge_sft-1") != name_of("merge-sft-1")


def test_the_manifests_that_ship_are_what_the_clients_models_know(repository: Path) -> None:
    for file in ("rbac.yaml", "volume.yaml"):
        for manifest in yaml.safe_load_all((repository / "include" / "kubernetes" / file).read_text(encoding="utf-8")):
            kind = {"RoleBinding": "V1RoleBinding"}.get(manifest["kind"], f"V1{manifest['kind']}")
            assert unknown_to_models(manifest, kind) == ""
