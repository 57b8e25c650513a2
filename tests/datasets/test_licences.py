from __future__ import annotations

from pathlib import Path

import pytest

from medllm_ops.curation.settings import LicenceSettings
from medllm_ops.datasets.licences import LicenceError, check_licences, licences_of

ENTRY = "module: medllm_ops.sources.alpaca\ntitle: t\npublisher: p\nterms: obey\norder: 1\ncredit: thank them\n"


@pytest.fixture(autouse=True)
def _catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "include" / "datasets"
    folder.mkdir(parents=True)
    (folder / "open.yaml").write_text(f"{ENTRY}licence: CC-BY-4.0\n")
    (folder / "mixed.yaml").write_text(f"{ENTRY}licence: That of the set\nlicence_covers_rows: false\n")
    monkeypatch.setenv("MEDLLM_INCLUDE", str(tmp_path / "include"))


def settings(**values: object) -> LicenceSettings:
    return LicenceSettings.model_validate({"unknown": "stop", **values})


def test_a_row_without_a_licence_has_that_of_its_source_unless_that_does_not_cover_it() -> None:
    found = licences_of({"open": {"": 3, "MIT": 1}, "mixed": {" ": 2, "MIT": 1}, "foreign": {"": 4}})
    assert found == {"open": {"CC-BY-4.0": 3, "MIT": 1}, "mixed": {"": 2, "MIT": 1}, "foreign": {"": 4}}


def test_what_is_allowed_is_told() -> None:
    told = check_licences({"open": {"": 3, "MIT": 1}}, settings())
    assert told == {
        "open": {
            "licences": {"CC-BY-4.0": 3, "MIT": 1},
            "allowed": False,
            "credit": "thank them",
            "terms": "obey",
        }
    }


def test_an_unknown_licence_stops_naming_source_rows_and_remedy() -> None:
    with pytest.raises(LicenceError) as caught:
        check_licences({"open": {"": 3}, "mixed": {"": 1200, "MIT": 1}}, settings())
    said = str(caught.value)
    assert "source mixed: 1,200 rows have no licence that is known" in said
    assert "licences.allow: [mixed]" in said
    assert "--allow-licence" in said
    assert "open" not in said


def test_an_unknown_licence_may_be_kept() -> None:
    told = check_licences({"mixed": {"": 2}}, settings(unknown="keep"))
    assert told["mixed"]["licences"] == {"": 2}


@pytest.mark.parametrize("pattern", ["CC-BY-NC-4.0", "cc-by-nc-*", "*-nc-*"])
def test_a_denied_licence_stops(pattern: str) -> None:
    with pytest.raises(LicenceError, match=r"'CC-BY-NC-4\.0' of 2 rows is denied \(licences\.deny: ") as caught:
        check_licences({"open": {"": 1, "CC-BY-NC-4.0": 2}}, settings(deny=[pattern]))
    assert "licences.allow: [open]" in str(caught.value)


def test_the_licence_of_the_entry_may_be_denied() -> None:
    with pytest.raises(LicenceError, match="source open"):
        check_licences({"open": {"": 1}}, settings(deny=["cc-by-4.0"]))


@pytest.mark.parametrize("way", ["settings", "argument"])
def test_a_source_is_allowed_by_name(way: str) -> None:
    counts = {"mixed": {"": 2, "CC-BY-NC-4.0": 1}}
    by_settings = ["mixed"] if way == "settings" else []
    by_argument = [] if way == "settings" else ["mixed"]
    told = check_licences(counts, settings(deny=["*-nc-*"], allow=by_settings), by_argument)
    assert told["mixed"]["allowed"] is True
    with pytest.raises(LicenceError, match="source other"):
        check_licences(counts | {"other": {"": 1}}, settings(allow=by_settings), by_argument)
