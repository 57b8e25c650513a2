from __future__ import annotations

from pathlib import Path

import pytest

from lineage.frozen import freeze
from medllm_ops.datasets import store
from medllm_ops.errors import MedllmError
from medllm_ops.files import link_to

pytestmark = pytest.mark.usefixtures("own_home")


def test_a_dataset_is_found_by_name_version_and_folder(own_home: Path) -> None:
    for version in (1, 2, 10):
        freeze("med", version, {"toy": {"toy:1": "a"}}, {})
    link_to(own_home / "datasets" / "med" / "latest", Path("2"))
    assert store.versions("med") == [1, 2, 10]
    assert store.find_dataset("med").version == 2
    assert store.find_dataset("med", "latest").version == 2
    assert store.find_dataset("med@10").version == 10
    assert store.find_dataset("med", 1).directory == own_home / "datasets" / "med" / "1"
    assert store.find_dataset(str(own_home / "datasets" / "med" / "latest")) == store.of_folder(
        own_home / "datasets" / "med" / "2"
    )
    assert str(store.find_dataset("med")) == "med@2"
    assert store.dataset_of("med", 10).is_dir()
    assert [str(one) for one in store.every_dataset()] == ["med@1", "med@2", "med@10"]


def test_half_made_ones_are_none(own_home: Path) -> None:
    freeze("med", 1, {"toy": {"toy:1": "a"}}, {})
    (own_home / "datasets" / "med" / "2").mkdir()
    (own_home / "datasets" / "empty").mkdir()
    assert store.versions("med") == [1]
    assert store.names() == ["med"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("other", "no dataset 'other' .datasets: med"),
        ("med@7", "med has no version 7 .versions: 1"),
        ("med@x", "med has no version x"),
        ("a b", "dataset name 'a b': letters"),
        ("latest", "not 'latest'"),
        ("./nothing", "is no dataset"),
    ],
)
def test_errors_name_what_there_is(wanted: str, said: str) -> None:
    freeze("med", 1, {"toy": {"toy:1": "a"}}, {})
    with pytest.raises(MedllmError, match=said):
        store.find_dataset(wanted)


def test_a_damaged_manifest_is_named() -> None:
    dataset = freeze("med", 1, {"toy": {"toy:1": "a"}}, {})
    (dataset.directory / "manifest.json").write_text("{")
    with pytest.raises(MedllmError, match="damaged"):
        _ = dataset.manifest
