"""Settings and login for :class:`servers.cluster.ClusterServer`, as a user would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from servers.cluster import NAMESPACE, ClusterServer
from servers.node import Node

IMAGE = "registry.example/medllm-ops/trainer:1"
RIGHTS = Path(__file__).resolve().parents[2] / "include" / "kubernetes" / "rbac.yaml"


def make_cluster(home: Path, gpus: int = 1) -> ClusterServer:
    """A cluster whose pods see a folder as the claim ``medllm``."""
    home.mkdir(parents=True, exist_ok=True)
    return ClusterServer(Node(gpus, {"medllm": home}, {IMAGE}), RIGHTS)


def write_settings(folder: Path, server: ClusterServer, home: Path, **changes: Any) -> Path:
    """Write the cluster's settings and a kubeconfig into a folder; return the settings' file."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server.url.rstrip("/")}}],
        "users": [{"name": "test", "user": {"token": "token"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        "current-context": "test",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig), encoding="utf-8")
    settings = {
        "image": IMAGE,
        "namespace": NAMESPACE,
        "volumes": [{"claim": "medllm", "path": str(home)}],
        "kubeconfig": str(folder / "kubeconfig"),
        "grace_seconds": 20,
        **changes,
    }
    (folder / "cluster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "cluster.yaml"
