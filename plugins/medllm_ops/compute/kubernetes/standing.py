"""What the pods of a job say of where it stands. Pure: it reads what the API server told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medllm_ops.compute.kubernetes.manifests import Manifest

State = Literal["unplaced", "starting", "running", "ended", "gone"]
# Why the cluster ends a pod that has done nothing wrong, beside the condition that newer clusters set.
_TAKEN_AWAY = ("Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated", "NodeAffinity")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the pods of a job stand, all of them together.

    :param reason: in words: what they wait for, or why one of them ended badly; empty where that is plain.
    :param taken_away: the cluster has ended one of them, or somebody has deleted it: the job may go on elsewhere.
    :param out_of_memory: the kernel has killed the container for its memory limit.
    """

    state: State
    reason: str = ""
    taken_away: bool = False
    out_of_memory: bool = False


def standing_of(pods: Sequence[Manifest], count: int, being_made: bool = False) -> Standing:
    """Judge the pods of a job that needs ``count`` of them.

    :param being_made: something in the cluster is still to make them: none is missing yet.
    """
    if not pods and not being_made:
        return Standing("gone", "its pod was deleted", taken_away=True)
    phases = [pod.get("status", {}).get("phase", "Pending") for pod in pods]
    for pod, phase in zip(pods, phases, strict=True):
        if phase == "Failed":
            return _failed(pod)
    if phases.count("Succeeded") >= count:
        return Standing("ended")
    pending = [pod for pod, phase in zip(pods, phases, strict=True) if phase == "Pending"]
    if pending:
        return next((found for pod in pending if (found := _unplaced(pod))), None) or _starting(pending[0])
    if len(pods) < count:
        return Standing("starting", f"waits for {count - len(pods)} of {count} pods to be made")
    if "Unknown" in phases:
        return Standing("running", "its node does not answer")
    return Standing("running")


def suspended(started: bool) -> Standing:
    """Judge a Job that the cluster has suspended, and that has no pods therefore.

    :param started: whether it had begun.
    """
    if started:
        return Standing("gone", "the cluster suspended its Job, and took its pods away", taken_away=True)
    return Standing("unplaced", "its Job is suspended: it waits in a queue of the cluster")


def _failed(pod: Manifest) -> Standing:
    status = pod["status"]
    name = pod["metadata"]["name"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True" or status.get("reason") in _TAKEN_AWAY:
        words = [status.get("reason") or disruption.get("reason"), status.get("message") or disruption.get("message")]
        said = ": ".join(word for word in words if word)
        return Standing("ended", f"the cluster took pod {name} away ({said})", taken_away=True)
    ended = _container(pod).get("state", {}).get("terminated", {})
    memory = ended.get("reason") == "OOMKilled"
    if memory:
        return Standing("ended", f"pod {name} was killed for its memory: raise memory in the settings", False, True)
    said = ended.get("message") or status.get("message") or ended.get("reason") or status.get("reason") or "no reason"
    code = f"exit code {ended['exitCode']}: " if "exitCode" in ended else ""
    return Standing("ended", f"pod {name} failed ({code}{' '.join(str(said).split())[-500:]})")


def _unplaced(pod: Manifest) -> Standing | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Standing("unplaced", f"waits for a node: {scheduled.get('message') or scheduled.get('reason') or '?'}")
    if not pod.get("spec", {}).get("nodeName"):
        return Standing("unplaced", "waits for a node")
    return None


def _starting(pod: Manifest) -> Standing:
    waiting = _container(pod).get("state", {}).get("waiting", {})
    said = ": ".join(word for word in (waiting.get("reason"), waiting.get("message")) if word)
    return Standing("starting", f"starts on {pod['spec'].get('nodeName')}" + (f" ({said})" if said else ""))


def _condition(pod: Manifest, kind: str) -> dict[str, Any]:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((dict(row) for row in conditions if row["type"] == kind), {})


def _container(pod: Manifest) -> dict[str, Any]:
    return next((dict(row) for row in pod.get("status", {}).get("containerStatuses") or []), {})
