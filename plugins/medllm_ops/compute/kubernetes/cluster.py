"""The calls to the API server that a job needs: each is repeated where that may help, and safe to be repeated."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from medllm_ops.compute.kubernetes.manifests import CONTAINER, JOB_LABEL, Manifest
from medllm_ops.compute.kubernetes.settings import ClusterSettings
from medllm_ops.errors import MedllmError

log = logging.getLogger(__name__)

JobState = Literal["gone", "making", "suspended"]

ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 10.0
# To connect, and between two bytes of an answer.
TIMEOUT_SECONDS = (5.0, 30.0)
LEAVING_SECONDS = 300.0
POLL_SECONDS = 1.0
_AGAIN = (429, 500, 502, 503, 504)


class ClusterError(MedllmError):
    """The API server refused something, or cannot be reached.

    :param status: of HTTP; 0 if there was no answer.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status

    @property
    def passes(self) -> bool:
        """Whether it may be over by itself."""
        return self.status == 0 or self.status in _AGAIN


class Cluster:
    """One namespace of a cluster.

    :param client: ``kubernetes.client.ApiClient``.
    """

    def __init__(self, client: Any, namespace: str) -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api

        self.namespace = namespace
        self._core, self._batch = CoreV1Api(client), BatchV1Api(client)

    def create(self, manifest: Manifest) -> None:
        """Get or create: what has this name already is the same job's, and stays.

        :raises ClusterError: if it is refused, or what has the name is being deleted and does not go away.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        make = {
            "Pod": self._core.create_namespaced_pod,
            "Service": self._core.create_namespaced_service,
            "Job": self._batch.create_namespaced_job,
        }[kind]
        deadline = time.monotonic() + LEAVING_SECONDS
        while True:
            try:
                self._call(f"create the {kind} {name}", make, self.namespace, manifest)
            except ClusterError as error:
                if error.status != 409:
                    raise
                if not self._leaving(kind, name):
                    log.info("%s %s is there already", kind, name)
                    return
                if time.monotonic() > deadline:
                    raise ClusterError(f"{kind} {name} is being deleted and does not go away", 409) from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def pods(self, name: str) -> list[Manifest]:
        """The pods of a job, as the API server tells them."""
        selector = f"{JOB_LABEL}={name}"
        found = self._call("list pods", self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return list(found["items"])

    def job_state(self, name: str) -> JobState:
        """What is to be expected of a Job without pods: they come a while after it, unless it is over."""
        try:
            found = self._call(f"read the Job {name}", self._batch.read_namespaced_job, name, self.namespace)
        except ClusterError as error:
            if error.status == 404:
                return "gone"
            raise
        true = {row["type"] for row in found.get("status", {}).get("conditions") or [] if row["status"] == "True"}
        if true & {"Complete", "Failed"} or "deletionTimestamp" in found["metadata"]:
            return "gone"
        # A queue such as Kueue's lets it wait like that, and puts it back there when others come first.
        return "suspended" if "Suspended" in true or found["spec"].get("suspend") else "making"

    def delete(self, name: str) -> None:
        """Delete all that belongs to a job; what is not there is deleted. Pods get SIGTERM, and end in their time."""
        pods = self.pods(name)
        # First what would make new pods.
        if any("batch.kubernetes.io/job-name" in pod["metadata"].get("labels", {}) for pod in pods) or not pods:
            background = {"propagation_policy": "Background"}
            self._delete(f"delete the Job {name}", self._batch.delete_namespaced_job, name, **background)
            self._delete(f"delete the Service {name}", self._core.delete_namespaced_service, name)
        for pod in pods:
            own = pod["metadata"]["name"]
            self._delete(f"delete the pod {own}", self._core.delete_namespaced_pod, own)

    def last_warning(self, name: str) -> str:
        """What the cluster last complained about a pod or a Job; empty if nothing."""
        selector = f"involvedObject.name={name},type=Warning"
        found = self._call("list events", self._core.list_namespaced_event, self.namespace, field_selector=selector)
        events = sorted(found["items"], key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return f"{events[-1]['reason']}: {events[-1]['message']}" if events else ""

    def log_tail(self, pod: str, lines: int = 15) -> str:
        """The last lines that a pod has printed; empty if there are none."""
        answer = self._plain("read the log", pod, tail_lines=lines)
        return "" if answer is None else answer.read().decode("utf-8", "replace").strip()

    def follow_log(self, pod: str, seconds: int | None = None) -> Iterator[str]:
        """What a pod prints, line by line with its time in front, until the pod ends or the connection does.

        :param seconds: from so long ago on; None: from its beginning.
        """
        since = {} if seconds is None else {"since_seconds": seconds}
        answer = self._plain("follow the log", pod, follow=True, timestamps=True, **since)
        if answer is None:
            return
        rest = b""
        for block in answer.stream(decode_content=False):
            *whole, rest = (rest + block).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)

    def _plain(self, what: str, pod: str, **options: Any) -> Any:
        """The open answer to a question about a log; None where the pod has none yet, or no more."""
        try:
            read = self._core.read_namespaced_pod_log
            return self._call(what, read, pod, self.namespace, container=CONTAINER, raw=True, **options)
        except ClusterError as error:
            if error.status in (400, 404):
                return None
            raise

    def _leaving(self, kind: str, name: str) -> bool:
        """Whether something of this name is on its way out, or gone by now."""
        read = {
            "Pod": self._core.read_namespaced_pod,
            "Service": self._core.read_namespaced_service,
            "Job": self._batch.read_namespaced_job,
        }[kind]
        try:
            found = self._call(f"read the {kind} {name}", read, name, self.namespace)
        except ClusterError as error:
            if error.status == 404:
                return True
            raise
        return "deletionTimestamp" in found["metadata"]

    def _delete(self, what: str, call: Callable[..., Any], name: str, **options: Any) -> None:
        try:
            self._call(what, call, name, self.namespace, **options)
        except ClusterError as error:
            if error.status != 404:
                raise

    def _call(self, what: str, call: Callable[..., Any], *arguments: Any, raw: bool = False, **options: Any) -> Any:
        """One call, and its answer as JSON; ``raw``: the answer itself, still open.

        :raises ClusterError: in the server's own words.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        def passes(error: BaseException) -> bool:
            return isinstance(error, HTTPError) or (isinstance(error, ApiException) and error.status in _AGAIN)

        retrying = Retrying(
            retry=retry_if_exception(passes),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        try:
            answer = retrying(call, *arguments, **options, _preload_content=False, _request_timeout=TIMEOUT_SECONDS)
            return answer if raw else json.loads(answer.data)
        except ApiException as error:
            raise ClusterError(f"the API server did not {what}: {_words(error)}", error.status or 0) from error
        except HTTPError as error:
            raise ClusterError(f"the API server does not answer, to {what}: {error}") from error


def connect(settings: ClusterSettings) -> Cluster:
    """Log in: by the file of the settings, as the pod that this is, or by ``~/.kube/config``.

    :raises MedllmError: if there is no login, or the ``kubernetes`` package is missing.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MedllmError("where=kubernetes needs the kubernetes package: pip install 'medllm-ops[control]'") from error
    configuration = client.Configuration()
    file = str(Path(settings.kubeconfig).expanduser()) if settings.kubeconfig else None
    try:
        if file is None and settings.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(file, context=settings.context, client_configuration=configuration)
    except config.ConfigException as error:
        raise MedllmError(f"no login to the cluster: {error}; docs/operations/kubernetes.md tells how") from error
    return Cluster(client.ApiClient(configuration), settings.namespace)


def _words(error: Any) -> str:
    try:
        said = json.loads(error.body)["message"]
    except (TypeError, ValueError, LookupError):
        said = f"{error.status} {error.reason}"
    if error.status in (401, 403):
        said += "; docs/operations/kubernetes.md has the rights that a task needs"
    return str(said)
