"""A node of a cluster whose containers are processes of this host: no image, no namespace, no mount."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

Manifest = dict[str, Any]
UID = "TEST_POD_UID"


@dataclass
class Pod:
    """A pod as the API server keeps it, and the process that it is."""

    manifest: Manifest
    process: subprocess.Popen[bytes] | None = None
    lines: list[bytes] = field(default_factory=list)
    kill_at: float | None = None
    ended_as: Manifest | None = None
    """A status that was decided elsewhere, such as that of an eviction."""

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def status(self) -> Manifest:
        return self.manifest.setdefault("status", {"phase": "Pending"})  # type: ignore[no-any-return]

    @property
    def phase(self) -> str:
        return str(self.status["phase"])

    @property
    def gpus(self) -> int:
        limits = self.manifest["spec"]["containers"][0].get("resources", {}).get("limits", {})
        return int(limits.get("nvidia.com/gpu", 0))

    def processes(self) -> Iterator[psutil.Process]:
        """All that the pod has started, in whatever session it is."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(UID) == self.manifest["metadata"]["uid"]:
                    yield process

    def kill(self) -> None:
        """As the kernel does it: nobody is asked."""
        while found := list(self.processes()):
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if self.process:
                self.process.wait()
            psutil.wait_procs(found, timeout=5)


class Node:
    """Runs pods.

    :param gpus: how many there are. :param claims: claim to folder; a pod must mount it under the folder's own path.
    :param images: what can be pulled. :param secrets: Secret to its values.
    """

    def __init__(self, gpus: int, claims: Mapping[str, Path], images: set[str]) -> None:
        self.name = "node-1"
        self.gpus = gpus
        self.claims = dict(claims)
        self.images = images
        self.secrets: dict[str, dict[str, str]] = {}
        self.addresses: dict[str, str] = {}

    def place(self, pod: Pod, pods: list[Pod]) -> bool:
        """Give a pod this node, if it has room."""
        used = sum(other.gpus for other in pods if other.phase in ("Pending", "Running") and _placed(other))
        if pod.gpus > self.gpus - used:
            message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
            _condition(pod, "PodScheduled", "False", "Unschedulable", message)
            return False
        _condition(pod, "PodScheduled", "True")
        pod.manifest["spec"]["nodeName"] = self.name
        return True

    def start(self, pod: Pod) -> str:
        """Start the container; return a warning for an event, if it cannot be started."""
        container = pod.manifest["spec"]["containers"][0]
        if container["image"] not in self.images:
            _waits(pod, "ImagePullBackOff", f'Back-off pulling image "{container["image"]}"')
            return f"Failed: image {container['image']} not found"
        if missing := self._mount_problem(pod, container):
            _waits(pod, "ContainerCreating", "")
            return f"FailedMount: {missing}"
        try:
            env = {item["name"]: self._value(item) for item in container.get("env", [])}
        except KeyError as error:
            _waits(pod, "CreateContainerConfigError", f"secret {error} not found")
            return ""
        index = pod.manifest["metadata"].get("labels", {}).get("batch.kubernetes.io/job-completion-index")
        if index is not None:
            env["JOB_COMPLETION_INDEX"] = index
        # No name server: names of the cluster in the environment become what it would answer.
        env = {name: self.addresses.get(value, value) for name, value in env.items()}
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_WAIT_POLICY") if name in os.environ}
        command = [sys.executable if part == "python" else part for part in container["command"]]
        pod.process = subprocess.Popen(
            command,
            env={**kept, **env, UID: pod.manifest["metadata"]["uid"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=_read, args=(pod,), daemon=True).start()
        pod.status.update(
            phase="Running", containerStatuses=[_container_status(pod, {"running": {"startedAt": now()}})]
        )
        return ""

    def end(self, pod: Pod, seconds: float) -> None:
        """Ask a pod to end, and kill it after so long."""
        if pod.process and pod.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                pod.process.send_signal(signal.SIGTERM)
        pod.kill_at = min(pod.kill_at or float("inf"), time.monotonic() + seconds)

    def look(self, pod: Pod) -> bool:
        """Note what has become of a pod's process; whether it runs no more."""
        if pod.process is None:
            return True
        code = pod.process.poll()
        if code is None and pod.kill_at is not None and time.monotonic() > pod.kill_at:
            pod.kill()
            code = pod.process.wait()
        if code is None:
            return False
        # The container is gone, and all that shares it.
        pod.kill()
        exit_code = 128 - code if code < 0 else code
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "finishedAt": now()}
        if pod.phase == "Running":
            decided = pod.ended_as or {}
            ended |= decided.get("terminated", {})
            pod.status.update(
                phase="Failed" if exit_code or "reason" in decided else "Succeeded",
                containerStatuses=[_container_status(pod, {"terminated": ended})],
                **{name: decided[name] for name in ("reason", "message") if name in decided},
            )
        return True

    def _mount_problem(self, pod: Pod, container: Manifest) -> str:
        volumes = {volume["name"]: volume for volume in pod.manifest["spec"].get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            volume = volumes.get(mount["name"])
            if volume is None:
                return f"volume {mount['name']} is not defined"
            if "persistentVolumeClaim" not in volume:
                continue
            claim = volume["persistentVolumeClaim"]["claimName"]
            if claim not in self.claims:
                return f'persistentvolumeclaim "{claim}" not found'
            if Path(mount["mountPath"]) != self.claims[claim] / mount.get("subPath", ""):
                return f"{claim} is {self.claims[claim]}: this node can mount it nowhere else"
        return ""

    def _value(self, item: Manifest) -> str:
        if "value" in item:
            return str(item["value"])
        reference = item["valueFrom"]["secretKeyRef"]
        return self.secrets[reference["name"]][reference["key"]]


def _placed(pod: Pod) -> bool:
    return "nodeName" in pod.manifest["spec"]


def _read(pod: Pod) -> None:
    assert pod.process
    assert pod.process.stdout
    for line in pod.process.stdout:
        pod.lines.append(f"{now()} ".encode() + line)


def _waits(pod: Pod, reason: str, message: str) -> None:
    pod.status["containerStatuses"] = [_container_status(pod, {"waiting": {"reason": reason, "message": message}})]


def _container_status(pod: Pod, state: Manifest) -> Manifest:
    container = pod.manifest["spec"]["containers"][0]
    ready = "running" in state
    named = {"name": container["name"], "image": container["image"], "imageID": container["image"]}
    return {**named, "ready": ready, "restartCount": 0, "state": state}


def _condition(pod: Pod, kind: str, status: str, reason: str = "", message: str = "") -> None:
    others = [row for row in pod.status.get("conditions", []) if row["type"] != kind]
    pod.status["conditions"] = [*others, {"type": kind, "status": status, "reason": reason, "message": message}]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
