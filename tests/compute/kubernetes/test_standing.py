from __future__ import annotations

from typing import Any

import pytest

from medllm_ops.compute.kubernetes.standing import Standing, standing_of, suspended


def pod(phase: str, node: str | None = "n", **status: Any) -> dict[str, Any]:
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase, **status}}


def terminated(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"terminated": state}}]}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"}


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], Standing("gone", "its pod was deleted", taken_away=True)),
        ([pod("Running")], Standing("running")),
        ([pod("Unknown")], Standing("running", "its node does not answer")),
        ([pod("Succeeded")], Standing("ended")),
        ([pod("Pending", None, conditions=[UNSCHEDULABLE])], Standing("unplaced", "waits for a node: 0/3 nodes")),
        ([pod("Pending", None)], Standing("unplaced", "waits for a node")),
        ([{"metadata": {"name": "p"}, "spec": {}}], Standing("unplaced", "waits for a node")),
        ([pod("Pending")], Standing("starting", "starts on n")),
        ([pod("Pending", **waiting("ErrImagePull", "no"))], Standing("starting", "starts on n (ErrImagePull: no)")),
        (
            [pod("Failed", reason="Evicted", message="disk")],
            Standing("ended", "the cluster took pod p away (Evicted: disk)", taken_away=True),
        ),
        (
            [pod("Failed", conditions=[DISRUPTED])],
            Standing("ended", "the cluster took pod p away (PreemptionByScheduler: for another)", taken_away=True),
        ),
        (
            [pod("Failed", **terminated(exitCode=137, reason="OOMKilled"))],
            Standing("ended", "pod p was killed for its memory: raise memory in the settings", out_of_memory=True),
        ),
        (
            [pod("Failed", **terminated(exitCode=1, reason="Error", message="No module\nnamed x"))],
            Standing("ended", "pod p failed (exit code 1: No module named x)"),
        ),
        ([pod("Failed")], Standing("ended", "pod p failed (no reason)")),
    ],
)
def test_what_is_told_of_one_pod(pods: list[dict[str, Any]], expected: Standing) -> None:
    assert standing_of(pods, 1) == expected


def test_all_pods_must_run_and_one_that_fails_ends_all() -> None:
    assert standing_of([pod("Running"), pod("Pending", None)], 2).state == "unplaced"
    assert standing_of([pod("Running")], 2) == Standing("starting", "waits for 1 of 2 pods to be made")
    assert standing_of([pod("Running"), pod("Running")], 2).state == "running"
    assert standing_of([pod("Running"), pod("Failed")], 2).state == "ended"
    assert standing_of([pod("Succeeded"), pod("Running")], 2).state == "running"
    assert standing_of([pod("Succeeded"), pod("Succeeded")], 2).state == "ended"


def test_a_suspended_job_waits_unless_it_had_begun() -> None:
    assert suspended(started=False).state == "unplaced"
    assert (suspended(started=True).state, suspended(started=True).taken_away) == ("gone", True)


def test_pods_that_are_still_to_be_made_are_not_missing() -> None:
    assert standing_of([], 2, being_made=True) == Standing("starting", "waits for 2 of 2 pods to be made")
