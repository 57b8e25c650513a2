"""An API server whose pods are real processes, as far as jobs need one: pods, their logs, events, Services, Jobs.

It is no Kubernetes: one node, no images, no namespaces of the kernel, no network of pods. It refuses what the client's
own models do not know, and what the rights in ``include/kubernetes/rbac.yaml`` do not allow.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from servers.base import Answer, Request, Server
from servers.node import Manifest, Node, Pod, now

NAMESPACE = "medllm"
STEP_SECONDS = 0.02
_PATH = re.compile(r"/(?:api|apis/batch)/v1/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?(/log)?")
_KINDS = {"pods": "V1Pod", "services": "V1Service", "jobs": "V1Job"}
_INDEX = "batch.kubernetes.io/job-completion-index"


class ClusterServer(Server):
    """A cluster of one node.

    :param rights: a file with a Role; what it does not allow is forbidden.

    While ``quota`` says which one is exceeded, the Job controller makes no pods.
    While ``queueing``, Jobs are suspended, and lose their pods.
    """

    def __init__(self, node: Node, rights: Path) -> None:
        super().__init__()
        self.node = node
        self.pods: dict[str, Pod] = {}
        self.others: dict[tuple[str, str], Manifest] = {}
        self.events: list[Manifest] = []
        self.created: list[str] = []
        self.quota = ""
        self.queueing = False
        self._lost_logs = 0
        self._rules = [rule for row in yaml.safe_load_all(rights.read_text()) if row for rule in row.get("rules", [])]
        self._state = threading.RLock()
        self._ending = threading.Event()
        self._controller = threading.Thread(target=self._control, daemon=True)

    def __enter__(self) -> Any:
        self._controller.start()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._controller.join()
        for pod in self.pods.values():
            pod.kill()
        super().__exit__(kind, error, at)

    # --- what befalls pods -------------------------------------------------------------------------------------------

    def pod(self, prefix: str = "") -> Pod:
        """The one pod whose name begins so."""
        (found,) = [pod for name, pod in self.pods.items() if name.startswith(prefix)]
        return found

    def evict(self, pod: Pod) -> None:
        """As a kubelet does that runs out of disk: the pod stays, failed."""
        with self._state:
            pod.ended_as = {"reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
        self.node.end(pod, 20)

    def drain(self, pod: Pod) -> None:
        """As the eviction API does: the pod is deleted."""
        with self._state:
            self._delete_pod(pod, 20)

    def lose_logs(self) -> None:
        """All streams that are open break off."""
        self._lost_logs += 1

    def kill_for_memory(self, pod: Pod) -> None:
        """As the kernel does at the memory limit of the pod."""
        with self._state:
            pod.ended_as = {"terminated": {"reason": "OOMKilled"}}
        pod.kill()

    # --- what it answers ---------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        found = _PATH.fullmatch(request.path)
        if not found or found[1] != NAMESPACE:
            return _status(404, "no such path")
        resource, name, log = found[2], found[3], found[4]
        verb = {"POST": "create", "DELETE": "delete"}.get(request.method, "get" if name else "list")
        if not self._allowed(f"{resource}/log" if log else resource, verb):
            return _status(403, f'the service account cannot {verb} resource "{resource}" in namespace "{NAMESPACE}"')
        with self._state:
            if log:
                return self._log(name, request)
            if verb == "create":
                return self._create(resource, json.loads(request.body))
            if verb == "list":
                return self._list(resource, request)
            thing = self._read(resource, name)
            if thing is None:
                return _status(404, f'{resource} "{name}" not found')
            if verb == "delete":
                self._delete(resource, name, json.loads(request.body or b"{}"))
            return _json(thing)

    def _allowed(self, resource: str, verb: str) -> bool:
        return any(resource in rule["resources"] and verb in rule["verbs"] for rule in self._rules)

    def _create(self, resource: str, manifest: Manifest) -> Answer:
        if problem := unknown_to_models(manifest, _KINDS[resource]):
            return _status(400, problem)
        name = manifest["metadata"]["name"]
        if self._read(resource, name) is not None:
            return _status(409, f'{resource} "{name}" already exists')
        self.created.append(f"{resource}/{name}")
        manifest["metadata"] |= {"uid": uuid.uuid4().hex, "creationTimestamp": now()}
        if resource == "pods":
            self.pods[name] = Pod({**manifest, "status": {"phase": "Pending"}})
        else:
            self.others[resource, name] = manifest
        return _json(manifest, 201)

    def _list(self, resource: str, request: Request) -> Answer:
        if resource == "events":
            name = re.search(r"involvedObject\.name=([^,]+)", request.parameters["fieldSelector"])
            assert name
            return _json({"items": [event for event in self.events if event["involvedObject"]["name"] == name[1]]})
        label, _, value = request.parameters["labelSelector"].partition("=")
        manifests = [pod.manifest for pod in self.pods.values()]
        return _json({"items": [row for row in manifests if row["metadata"].get("labels", {}).get(label) == value]})

    def _read(self, resource: str, name: str) -> Manifest | None:
        if resource == "pods":
            return self.pods[name].manifest if name in self.pods else None
        return self.others.get((resource, name))

    def _delete(self, resource: str, name: str, options: Manifest) -> None:
        if resource == "pods":
            self._delete_pod(self.pods[name], options.get("gracePeriodSeconds"))
            return
        del self.others[resource, name]
        for pod in self._pods_of(name) if resource == "jobs" else []:
            self._delete_pod(pod, None)

    def _delete_pod(self, pod: Pod, seconds: float | None) -> None:
        pod.manifest["metadata"].setdefault("deletionTimestamp", now())
        self.node.end(pod, pod.manifest["spec"]["terminationGracePeriodSeconds"] if seconds is None else seconds)

    def _log(self, name: str, request: Request) -> Answer:
        if name not in self.pods:
            return _status(404, f'pods "{name}" not found')
        pod = self.pods[name]
        if pod.process is None:
            return _status(400, f'container "job" in pod "{name}" is waiting to start')
        stamped = request.parameters.get("timestamps", "").lower() == "true"
        if request.parameters.get("follow", "").lower() == "true":
            return Answer(stream=self._follow(pod, stamped))
        lines = pod.lines[-int(request.parameters.get("tailLines", len(pod.lines) or 1)) :]
        return Answer(b"".join(_shown(line, stamped) for line in lines), "text/plain")

    def _follow(self, pod: Pod, stamped: bool) -> Iterator[bytes]:
        sent, lost = 0, self._lost_logs
        while True:
            if lost != self._lost_logs:
                raise ConnectionResetError
            ended = pod.phase in ("Succeeded", "Failed") or pod.name not in self.pods
            for line in pod.lines[sent:]:
                sent += 1
                yield _shown(line, stamped)
            if ended or self.sleep(STEP_SECONDS):
                return

    # --- what goes on by itself --------------------------------------------------------------------------------------

    def _control(self) -> None:
        while not self._ending.wait(STEP_SECONDS):
            with self._state:
                for (resource, _), manifest in list(self.others.items()):
                    if resource == "jobs":
                        self._control_job(manifest)
                for pod in list(self.pods.values()):
                    self._control_pod(pod)

    def _control_pod(self, pod: Pod) -> None:
        leaving = "deletionTimestamp" in pod.manifest["metadata"]
        if self.node.look(pod) and leaving:
            del self.pods[pod.name]
        elif pod.phase == "Pending" and not leaving and pod.process is None:
            placed = "nodeName" in pod.manifest["spec"] or self.node.place(pod, list(self.pods.values()))
            warning = self.node.start(pod) if placed else ""
            if warning:
                reason, _, message = warning.partition(": ")
                self._warn(pod.name, reason, message)

    def _warn(self, name: str, reason: str, message: str) -> None:
        if not any(event["involvedObject"]["name"] == name for event in self.events):
            about = {"involvedObject": {"name": name}, "type": "Warning", "lastTimestamp": now()}
            self.events.append({**about, "reason": reason, "message": message})

    def _control_job(self, job: Manifest) -> None:
        """What the Job controller does with an Indexed Job whose ``backoffLimit`` is 0."""
        name, spec = job["metadata"]["name"], job["spec"]
        assert (spec["completionMode"], spec["backoffLimit"]) == ("Indexed", 0)
        status = job.setdefault("status", {})
        pods = self._pods_of(name)
        if self.queueing:
            # As Kueue does, until there is room.
            job["spec"]["suspend"] = True
            status["conditions"] = [{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]
            for pod in pods:
                self._delete_pod(pod, None)
            return
        if job["spec"].pop("suspend", False):
            status.clear()
        if self.quota and not status:
            self._warn(name, "FailedCreate", f"pods are forbidden: exceeded quota: {self.quota}")
        elif not pods and not status:
            status["active"] = spec["parallelism"]
            for index in range(spec["completions"]):
                self._make_pod_of(job, index)
        elif (
            len(pods) < spec["completions"] or any(pod.phase == "Failed" for pod in pods)
        ) and "conditions" not in status:
            status["conditions"] = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
            for pod in pods:
                if pod.phase in ("Pending", "Running"):
                    self._delete_pod(pod, None)

    def _make_pod_of(self, job: Manifest, index: int) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        own = {"name": f"{name}-{index}-{uuid.uuid4().hex[:5]}", "namespace": NAMESPACE, "uid": uuid.uuid4().hex}
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": name, _INDEX: str(index)}
        spec = json.loads(json.dumps({**template["spec"], "hostname": f"{name}-{index}"}))
        meta = {**template["metadata"], **own, "labels": labels, "creationTimestamp": now()}
        self.pods[own["name"]] = Pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        if ("services", spec.get("subdomain", "")) in self.others:
            self.node.addresses[f"{name}-{index}.{spec['subdomain']}.{NAMESPACE}.svc"] = "127.0.0.1"

    def _pods_of(self, job: str) -> list[Pod]:
        label = "batch.kubernetes.io/job-name"
        return [pod for pod in self.pods.values() if pod.manifest["metadata"].get("labels", {}).get(label) == job]

    def wait_for(self, phase: str, prefix: str = "", seconds: float = 60) -> Pod:
        """The one pod with this phase whose name begins so."""
        deadline = time.monotonic() + seconds
        while True:
            found = [pod for name, pod in self.pods.items() if name.startswith(prefix) and pod.phase == phase]
            if found:
                return found[0]
            states = {name: pod.status for name, pod in self.pods.items()}
            assert time.monotonic() < deadline, f"no pod is {phase}: {states}"
            time.sleep(STEP_SECONDS)


def unknown_to_models(manifest: Manifest, kind: str) -> str:
    """What the client's own model of this kind does not know of a manifest, or holds to be wrong; empty if nothing."""
    from kubernetes.client import ApiClient

    class Response:
        data = json.dumps(manifest)

    client = ApiClient()
    try:
        known = client.sanitize_for_serialization(client.deserialize(Response(), kind))
    except (ValueError, TypeError) as error:
        return str(error)
    return _difference(manifest, known, kind)


def _difference(given: Any, known: Any, where: str) -> str:
    if isinstance(given, dict):
        for name, value in given.items():
            if not isinstance(known, dict) or name not in known:
                return f'unknown field "{where}.{name}"'
            if found := _difference(value, known[name], f"{where}.{name}"):
                return found
        return ""
    if isinstance(given, list):
        pairs = zip(given, known, strict=True)
        return next((found for pair in pairs if (found := _difference(*pair, where))), "")
    return "" if type(given) is type(known) else f"{where}: {given!r} is of the wrong type"


def _shown(line: bytes, stamped: bool) -> bytes:
    return line if stamped else line.partition(b" ")[2]


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), "application/json", status)


def _status(code: int, message: str) -> Answer:
    return _json({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}, code)
