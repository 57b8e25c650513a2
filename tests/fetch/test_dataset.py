from pathlib import Path
from typing import Any

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.fetch import dataset, hub, s3
from medllm_ops.fetch.base import FetchError, Known
from medllm_ops.fetch.http import Client
from medllm_ops.sources import get_entry


@pytest.mark.parametrize(
    ("module", "location"),
    [
        (s3, "s3://bucket/prefix"),
        (hub, "modelscope:deepctrl/deepctrl-sft-data"),
        (hub, "huggingface:Flmc/DISC-Med-SFT"),
    ],
)
def test_the_location_chooses(module: Any, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(module, "fetch", lambda settings, *_: asked.append(settings.location) or iter(()))
    with Client() as client:
        assert list(dataset.fetch(dataset.Settings(location=location), Known(), tmp_path, client)) == []
    assert asked == [location]


def test_a_folder_needs_no_scheme_even_with_a_colon_in_its_name(tmp_path: Path) -> None:
    place = tmp_path / "notes: new"
    place.mkdir()
    (place / "rows.jsonl").write_text("{}\n")
    with Client() as client:
        (file,) = dataset.fetch(dataset.Settings(location=str(place)), Known(), tmp_path / "spool", client)
    assert file.name == "notes: new/rows.jsonl"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"location": "https://example.org/x"},
            "location 'https://example.org/x' is no place to fetch from; give a fol",
        ),
        ({"location": "hugginface:a/b"}, "is no place to fetch from"),
        ({"location": "huggingface:a"}, "location 'huggingface:a': a data set is named owner/name"),
        ({"location": "modelscope:../b"}, "a data set is named owner/name"),
        ({"location": "s3://"}, "location 's3://' names no bucket"),
        ({"location": "/data", "revision": "v1"}, "only a data set of ModelScope or Hugging Face has a revision"),
    ],
)
def test_a_bad_location_is_told_before_anything_starts(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MedllmError) as caught:
        get_entry("docx").fetch_settings(**settings)
    assert sentence in str(caught.value)


def test_no_location_at_all(tmp_path: Path) -> None:
    with (
        Client() as client,
        pytest.raises(FetchError, match=r"set location to a folder, a file, s3://bucket/prefix, mod"),
    ):
        dataset.fetch(dataset.Settings(), Known(), tmp_path, client)


@pytest.mark.parametrize(
    ("name", "location"),
    [("deepctrl", "modelscope:deepctrl/deepctrl-sft-data"), ("disc_medllm", "huggingface:Flmc/DISC-Med-SFT")],
)
def test_the_shipped_sets_know_where_they_lie(name: str, location: str) -> None:
    settings = get_entry(name).fetch_settings()
    assert isinstance(settings, dataset.Settings)
    assert settings.location == location


def test_deepctrl_is_sampled_file_by_file() -> None:
    assert get_entry("deepctrl").sample.model_dump() == {"rows": 20000, "seed": 42}
