from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.curation.settings import CurationSettings, LicenceSettings
from medllm_ops.datasets.licences import duties, licences_of_sources, strict

ENTRY = "module: medllm_ops.sources.alpaca\ntitle: t\npublisher: p\nterms: obey\norder: 1\ncredit: thank them\n"


@pytest.fixture(autouse=True)
def _catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "include" / "datasets"
    folder.mkdir(parents=True)
    (folder / "open.yaml").write_text(f"{ENTRY}licence: CC-BY-4.0\n")
    (folder / "mixed.yaml").write_text(f"{ENTRY}licence: That of the set\nlicence_covers_rows: false\n")
    monkeypatch.setenv("MEDLLM_INCLUDE", str(tmp_path / "include"))


def test_a_licence_that_does_not_cover_every_row_is_that_of_none() -> None:
    assert licences_of_sources() == {"open": "CC-BY-4.0"}


def test_duties_of_the_sources_that_have_an_entry() -> None:
    assert duties(["mixed", "foreign"]) == {"mixed": {"credit": "thank them", "terms": "obey"}}


def test_an_unknown_licence_stops_unless_the_settings_say_otherwise() -> None:
    assert strict(CurationSettings(), []).licences.unknown == "stop"
    for said in ("keep", "stop"):
        settings = CurationSettings(licences=LicenceSettings(unknown=said))
        assert strict(settings, []).licences.unknown == said


def test_sources_are_allowed_by_settings_and_by_name() -> None:
    settings = CurationSettings(licences=LicenceSettings(allow=("one",), deny=("*-nc-*",)))
    found = strict(settings, ["two", "one"]).licences
    assert (found.allow, found.deny) == (("one", "two"), ("*-nc-*",))
