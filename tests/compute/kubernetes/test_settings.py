from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm_ops.compute.kubernetes.settings import ClusterSettings, read_settings
from medllm_ops.errors import MedllmError

VALID: dict[str, Any] = {"image": "registry.example/trainer:1", "volumes": [{"claim": "medllm", "path": "/srv/medllm"}]}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def do(**changes: Any) -> Path:
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump({**VALID, **changes}), encoding="utf-8")
        return path

    return do


def test_the_settings_that_ship_are_valid(repository: Path) -> None:
    settings = read_settings(repository / "include" / "kubernetes" / "cluster.yaml")
    assert settings.volumes[0].path == "/srv/medllm"


def test_every_setting_is_explained(repository: Path) -> None:
    text = (repository / "docs" / "operations" / "kubernetes.md").read_text(encoding="utf-8")
    assert [name for name in ClusterSettings.model_fields if f"`{name}`" not in text] == []


def test_numbers_may_be_written_as_numbers(write: Any) -> None:
    assert read_settings(write(cpu=8)).cpu == "8"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodeselector": {}}, r"nodeselector is unknown; did you mean node_selector\?"),
        (
            {"volumes": [{"claim": "a", "mount": "/a"}]},
            r"volumes.0.mount is unknown .*; volumes.0.path is missing|path is",
        ),
        ({"volumes": []}, "volumes: List should have at least 1 item"),
        ({"tolerations": [{"key": "a", "effect": "NoPods"}]}, "tolerations.0.effect: Input should be 'NoSchedule'"),
        ({"image": "registry.example:5000/trainer"}, "image: give a tag other than latest, or a digest"),
        ({"image": "trainer:latest"}, "image: give a tag other than latest"),
        ({"memory": "64 GB"}, "memory: String should match"),
        ({"grace_seconds": 5}, "grace_seconds: Input should be greater than or equal to 20"),
        ({"namespace": "Medical"}, "namespace: String should match"),
        ({"secrets": {"HF TOKEN": {"secret": "a", "key": "b"}}}, "secrets.HF TOKEN"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(write: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MedllmError, match=said):
        read_settings(write(**changes))


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_KUBERNETES", str(tmp_path / "none.yaml"))
    with pytest.raises(MedllmError, match=r"none.yaml is not there: it describes the cluster"):
        read_settings()


def test_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("image: [", encoding="utf-8")
    with pytest.raises(MedllmError, match=r"cluster.yaml is no YAML"):
        read_settings(path)


def test_the_longest_path_says_which_volume_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [*VALID["volumes"], {"claim": "models", "path": "/srv/medllm/models", "read_only": True}]
    settings = ClusterSettings.model_validate({**VALID, "volumes": volumes})
    found = [settings.volume_of(Path(path)) for path in ("/srv/medllm/runs/a", "/srv/medllm/models/b", "/srv/other")]
    assert [volume and volume.claim for volume in found] == ["medllm", "models", None]
    monkeypatch.setenv("MEDLLM_HOME", "/srv/medllm")
    settings.check_writable(Path("/srv/medllm/runs"))
    with pytest.raises(MedllmError, match=r"cannot write into /srv/medllm/models/b"):
        settings.check_writable(Path("/srv/medllm/models/b"))
