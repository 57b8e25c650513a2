"""What is sent to the cluster for a job: a pod, or for several nodes an Indexed Job with a headless Service.

Pure, and in Kubernetes' own words, as they stand in any manifest: nothing here knows a client.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from medllm_ops.compute.job import Job
from medllm_ops.compute.kubernetes.settings import ClusterSettings
from medllm_ops.compute.nodes import MASTER, NODES, START
from medllm_ops.compute.processes import HOST
from medllm_ops.files import text_hash
from medllm_ops.home import home

Manifest = dict[str, Any]

CONTAINER = "job"
JOB_LABEL = "medllm-ops/job"
KEPT_SECONDS = 86_400
# A pod's name is that of its Job with an index and five signs, 63 in all.
_LONGEST_NAME = 50
_PREFIX = "medllm"
# Those who pack nodes tighter, or save some, are to leave a training alone: it costs the steps since its checkpoint.
_LEAVE_ALONE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def name_of(job_id: str) -> str:
    """The name of a job in the cluster, made of its id: two that create the same job meet on the same name."""
    digest = text_hash(job_id)[:8]
    plain = re.sub(r"[^a-z0-9]+", "-", job_id.lower())[: _LONGEST_NAME - len(_PREFIX) - len(digest) - 2].strip("-")
    return "-".join(filter(None, (_PREFIX, plain, digest)))


def pod_of(job: Job, settings: ClusterSettings) -> Manifest:
    """The pod of a job on one node, or of each of its nodes."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name_of(job.id),
            "namespace": settings.namespace,
            "labels": _labels(job, settings),
            "annotations": {
                **_LEAVE_ALONE,
                "medllm-ops/directory": str(job.directory),
                **({"medllm-ops/task": str(job.owner)} if job.owner else {}),
                **settings.annotations,
            },
        },
        "spec": _without_none(
            {
                "restartPolicy": "Never",
                "serviceAccountName": settings.service_account,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                # The first process of the pod is then Kubernetes' own, which takes in the orphans of the job.
                "shareProcessNamespace": True,
                "terminationGracePeriodSeconds": settings.grace_seconds,
                "securityContext": _security(settings),
                "nodeSelector": settings.node_selector or None,
                "tolerations": [item.model_dump(exclude_none=True) for item in settings.tolerations] or None,
                "runtimeClassName": settings.runtime_class,
                "priorityClassName": settings.priority_class,
                "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets] or None,
                "volumes": _volumes(settings),
                "containers": [_container(job, settings)],
            }
        ),
    }


def several_of(job: Job, pod: Manifest) -> list[Manifest]:
    """The Service and the Indexed Job of a job on several nodes.

    Nothing is retried by the cluster (``backoffLimit: 0``): the ranks of one node cannot go on without the others, so
    the failure of one pod ends all of them, and who waits for the job starts it anew, from its last whole checkpoint.

    :param pod: what :func:`pod_of` made.
    """
    meta = pod["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    master = f"{name}-0.{name}.{namespace}.svc"
    together = {NODES: str(job.nodes), MASTER: master, START: uuid.uuid4().hex}
    container = pod["spec"]["containers"][0]
    env = [*container["env"], *({"name": key, "value": value} for key, value in together.items())]
    spec = {**pod["spec"], "subdomain": name, "containers": [{**container, "env": env}]}
    shared = {"name": name, "namespace": namespace, "labels": meta["labels"]}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": shared,
        # The ranks look for each other before any of them is ready.
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {JOB_LABEL: name}},
    }
    template = {"metadata": {"labels": meta["labels"], "annotations": meta["annotations"]}, "spec": spec}
    indexed = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**shared, "annotations": meta["annotations"]},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nodes,
            "parallelism": job.nodes,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": template,
        },
    }
    return [service, indexed]


def _labels(job: Job, settings: ClusterSettings) -> dict[str, str]:
    own = {"app.kubernetes.io/name": "medllm-ops", "app.kubernetes.io/component": "job", JOB_LABEL: name_of(job.id)}
    return {**settings.labels, **own}


def _security(settings: ClusterSettings) -> Manifest:
    security: Manifest = {"seccompProfile": {"type": "RuntimeDefault"}}
    if settings.user is not None:
        security |= {"runAsUser": settings.user, "runAsNonRoot": settings.user != 0}
    if settings.group is not None:
        # Only where the volume's root has another owner: a chown of every checkpoint would take minutes.
        security |= {
            "runAsGroup": settings.group,
            "fsGroup": settings.group,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return security


def _volumes(settings: ClusterSettings) -> list[Manifest]:
    claims = {
        volume.claim: {"name": _volume_name(volume.claim), "persistentVolumeClaim": {"claimName": volume.claim}}
        for volume in settings.volumes
    }
    # Without it, /dev/shm is 64 MiB: too little for NCCL and for the workers of a data loader.
    shared_memory = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shared_memory}}
    return [*claims.values(), shared_memory]


def _volume_name(claim: str) -> str:
    return f"claim-{text_hash(claim)[:12]}"


def _container(job: Job, settings: ClusterSettings) -> Manifest:
    return _without_none(
        {
            "name": CONTAINER,
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": ["python", "-m", "medllm_ops.compute.kubernetes.container", str(job.directory)],
            "env": _environment(job, settings),
            "resources": _resources(job, settings),
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            # The last lines of the log, where it could say nothing else.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": _mounts(settings),
        }
    )


def _environment(job: Job, settings: ClusterSettings) -> list[Manifest]:
    # The host is the same after the pod was replaced: whoever looks for the job looks for it there.
    own = {HOST: name_of(job.id), "MEDLLM_HOME": str(home()), "PYTHONUNBUFFERED": "1"}
    secrets = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": item.secret, "key": item.key}}}
        for name, item in settings.secrets.items()
    ]
    plain = [{"name": name, "value": value} for name, value in {**settings.environment, **own}.items()]
    return [*plain, *secrets]


def _resources(job: Job, settings: ClusterSettings) -> Manifest | None:
    limits, requests = {}, {}
    if job.gpus and settings.gpu_resource:
        limits[settings.gpu_resource] = str(job.gpus)
    if settings.memory:
        limits["memory"] = requests["memory"] = settings.memory
    if settings.cpu:
        # No limit: a pod that is alone on its node may have what is left.
        requests["cpu"] = settings.cpu
    return _without_none({"limits": limits or None, "requests": requests or None}) or None


def _mounts(settings: ClusterSettings) -> list[Manifest]:
    mounts = [
        _without_none(
            {
                "name": _volume_name(volume.claim),
                "mountPath": volume.path,
                "subPath": volume.sub_path,
                "readOnly": volume.read_only or None,
            }
        )
        for volume in settings.volumes
    ]
    return [*mounts, {"name": "shared-memory", "mountPath": "/dev/shm"}]


def _without_none(values: Manifest) -> Manifest:
    return {name: value for name, value in values.items() if value is not None}
