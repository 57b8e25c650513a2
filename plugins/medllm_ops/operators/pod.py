"""Pods the way this Airflow makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.exceptions import AirflowException
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk import Context

from medllm_ops.compute.kubernetes import cluster
from medllm_ops.compute.kubernetes.cluster import Cluster
from medllm_ops.compute.kubernetes.manifests import CONTAINER, Manifest
from medllm_ops.compute.kubernetes.place import KubernetesPlace
from medllm_ops.compute.kubernetes.settings import ClusterSettings
from medllm_ops.errors import MedllmError
from medllm_ops.operators.owner import owner_of


class JobPodOperator(KubernetesPodOperator):
    """The pod of a job, with the labels that Airflow gives its pods, and after the installation's pod mutation hook.

    A task that runs a job in the cluster makes one of these and asks it for the pod; ``dry_run`` prints it. The task
    watches the job itself, as it does everywhere. This class's own ``execute`` could not: it deletes the pod at every
    SIGTERM, also at that of a worker that only stops, and it waits where that signal cannot be thought about.

    :param manifest: of the pod; see :func:`medllm_ops.compute.kubernetes.manifests.pod_of`.
    """

    def __init__(self, *, manifest: Manifest, **kwargs: Any) -> None:
        super().__init__(
            full_pod_spec=PodGenerator.deserialize_model_dict(manifest),
            base_container_name=CONTAINER,
            random_name_suffix=False,
            # What it gives a default to is said once more, or the default would win.
            image_pull_policy=manifest["spec"]["containers"][0]["imagePullPolicy"],
            termination_message_policy=manifest["spec"]["containers"][0]["terminationMessagePolicy"],
            automount_service_account_token=manifest["spec"]["automountServiceAccountToken"],
            # The result is a file on the run volume: no second container that must be ended.
            do_xcom_push=False,
            **kwargs,
        )

    def manifest(self, context: Context | None = None) -> Manifest:
        """The pod as it is sent.

        :param context: of the task that asks, for the labels.
        """
        from kubernetes.client import ApiClient

        # A dry run is one that asks no cluster.
        pod = self.build_pod_request_obj(context, dry_run=True)
        return dict(ApiClient().sanitize_for_serialization(pod))


def kubernetes_place(context: Context | None = None, watch: Callable[[], None] | None = None) -> KubernetesPlace:
    """The cluster as a task sees it, or whoever ends a task's job: then without a context."""

    def tailor(manifest: Manifest, settings: ClusterSettings) -> Manifest:
        return JobPodOperator(task_id=manifest["metadata"]["name"], manifest=manifest).manifest(context)

    return KubernetesPlace(owner_of(context) if context else None, watch, connect, tailor)


def connect(settings: ClusterSettings) -> Cluster:
    """Log in by the Airflow connection of the settings, if they name one, or as outside of Airflow.

    :raises MedllmError: if there is no login.
    """
    if settings.connection is None:
        return cluster.connect(settings)
    try:
        hook = KubernetesHook(conn_id=settings.connection, cluster_context=settings.context)
        return Cluster(hook.get_conn(), settings.namespace)
    except AirflowException as error:
        raise MedllmError(f"Airflow connection {settings.connection}: {error}") from error
