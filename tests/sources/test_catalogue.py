import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medllm_ops.errors import MedllmError
from medllm_ops.files import read_json_lines
from medllm_ops.sources import UNRECOGNISED, all_sources, catalogue, get_entry, get_source, list_files
from medllm_ops.sources.catalogue import NO_ENTRIES, Entry, read_entry

TOY = """
from medllm_ops.sources.dialogues import build_dialogue, text_field
from medllm_ops.sources.rows import row_source


def recognises(row):
    return "frage" in row


def convert(row):
    return build_dialogue("toy", [("user", text_field(row, "frage")), ("assistant", text_field(row, "antwort"))])


SOURCE = row_source("toy", convert, recognises)
"""
ROWS = '{"frage": "What is a toy?", "antwort": "A small example."}\n{"frage": "And this?", "antwort": ""}\n'
GOOD = {
    "module": "toy",
    "title": "Toy questions",
    "publisher": "A test",
    "licence": "CC0",
    "terms": "None.",
    "order": 1,
    "aliases": ["plaything"],
    "settings": {"location": "/data/toys", "max_files": 3},
    "sample": {"rows": 10, "seed": 7},
    "keep_raw": False,
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for entries, of the only catalogue that there is; its modules can be imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy.py").write_text(TOY)
    folder = tmp_path / "include" / "datasets"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MEDLLM_INCLUDE", str(folder.parent))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "toy", raising=False)
    return folder


def put(folder: Path, stem: str = "toy", /, **changes: object) -> None:
    values = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (folder / f"{stem}.yaml").write_text(yaml.safe_dump(values))


def test_a_source_is_added_by_one_module_and_one_entry(write: Path, tmp_path: Path) -> None:
    put(write)
    raw = tmp_path / "raw" / "sft" / "toys.jsonl"
    raw.parent.mkdir(parents=True)
    raw.write_text(ROWS)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "modules"), "COLUMNS": "200"}
    environment["MEDLLM_HOME"] = str(tmp_path / "home")

    def medllm_ops(*arguments: str) -> str:
        command = [sys.executable, "-m", "medllm_ops.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Toy questions" in medllm_ops("sources")
    told = medllm_ops("convert", "plaything", str(raw), "--out", str(tmp_path / "out"))
    assert told.startswith("2 in, 1 out, 1 dropped")
    (row,) = read_json_lines(tmp_path / "out" / "records.jsonl")
    assert (row["source"], row["messages"][1]["content"]) == ("toy", "A small example.")
    assert list_files(tmp_path / "raw") == {"toy": [raw]}
    told = medllm_ops("corpus", "refresh", "toy", "--set", f"location={raw.parent}")
    assert "toy: 1 raw file, 2 items" in told
    assert "sft/toys.jsonl: 1 new, 0 changed" in told


def test_a_changed_module_converts_anew(write: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(write)
    before = get_source("toy").code
    (tmp_path / "modules" / "toy.py").write_text(TOY + "# changed\n")
    monkeypatch.delitem(sys.modules, "toy")
    put(write, title="The entry changed, too")
    assert get_source("toy").code != before


def test_an_entry_is_read_with_its_settings(write: Path) -> None:
    put(write)
    entry = get_entry("plaything")
    assert (entry.name, entry.title, entry.sample.rows, entry.sample.seed) == ("toy", "Toy questions", 10, 7)
    assert not entry.keep_raw
    settings = entry.fetch_settings(max_files=5)
    assert settings.model_dump(include={"location", "max_files"}) == {"location": "/data/toys", "max_files": 5}


def test_an_edited_entry_is_read_again(write: Path) -> None:
    put(write)
    assert get_entry("toy").title == "Toy questions"
    put(write, title="Other questions")
    assert get_entry("toy").title == "Other questions"


def test_settings_of_another_kind_and_folders_are_no_entries(write: Path) -> None:
    put(write)
    (write / "curation.yaml").write_text("deduplicate: true\n")
    (write / "demo").mkdir()
    (write / "demo" / "rows.yaml").write_text("[]\n")
    assert [entry.name for entry in catalogue()] == ["toy"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"titel": "x"}, "toy.yaml: titel is unknown; did you mean title?"),
        ({"zzz": 1}, "toy.yaml: zzz is unknown (there are module, title, publisher,"),
        ({"sample": {"row": 1}}, "toy.yaml: sample.row is unknown; did you mean rows?"),
        ({"sample": {"rows": -1}}, "toy.yaml: sample.rows: Input should be greater than or equal to 0 (got -1)"),
        ({"licence": None}, "toy.yaml: licence is missing"),
        ({"title": ""}, "toy.yaml: title: String should have at least 1 character"),
        ({"order": "first", "keep_raw": "maybe"}, "order: Input should be a valid integer, unable to parse string"),
        ({"name": "toy"}, "toy.yaml: leave name out: a source is named by the name of its file"),
        ({"module": "toy/x"}, "toy.yaml: module: String should match pattern"),
    ],
)
def test_a_broken_entry_is_named_with_its_field(write: Path, changes: dict[str, object], sentence: str) -> None:
    put(write, **changes)
    with pytest.raises(MedllmError, match=r"^catalogue entry /") as caught:
        catalogue()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "is not YAML"), ("- a", "is not a mapping"), ("", "mapping")])
def test_what_is_no_mapping_is_named(write: Path, text: str, sentence: str) -> None:
    (write / "toy.yaml").write_text(text)
    with pytest.raises(MedllmError, match=sentence) as caught:
        get_source("toy")
    assert str(write / "toy.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("toy", {"module": "toyy"}, "toy.yaml: module toyy cannot be imported: No module named 'toyy'"),
        ("toy", {"module": "json"}, "toy.yaml: module json has no SOURCE"),
        ("doll", {}, "doll.yaml: the SOURCE of toy is named toy; call the file toy.yaml"),
        ("toy", {"settings": {"locaton": "x"}}, "toy.yaml: settings.locaton is unknown; did you mean location?"),
        ("toy", {"settings": {"max_files": "all"}}, "toy.yaml: settings.max_files: Input should be a valid integer"),
    ],
)
def test_what_does_not_fit_the_module_is_named(
    write: Path, name: str, changes: dict[str, object], sentence: str
) -> None:
    put(write, name, **changes)
    with pytest.raises(MedllmError) as caught:
        get_entry(name).fetch_settings()
    assert sentence in str(caught.value)


def test_a_bad_change_is_not_the_entrys_fault(write: Path) -> None:
    put(write)
    with pytest.raises(MedllmError, match=r"^source toy: settings\.max_file is unknown; did you mean max_files\?"):
        get_entry("toy").fetch_settings(max_file=1)


def test_a_name_is_that_of_one_source(write: Path) -> None:
    put(write)
    put(write, "doll", aliases=["toy"])
    with pytest.raises(MedllmError, match=r"doll\.yaml: aliases: toy is the name of another source, too"):
        catalogue()


def test_a_folder_is_that_of_one_source(write: Path, tmp_path: Path) -> None:
    put(write)
    module = "from medllm_ops.sources.docx import SOURCE as DOCX\nimport dataclasses\n"
    (tmp_path / "modules" / "doll.py").write_text(
        f"{module}SOURCE = dataclasses.replace(DOCX, name='doll', folder='sft')\n"
    )
    put(write, "doll", module="doll", aliases=[])
    with pytest.raises(MedllmError, match="another source has the folder sft"):
        list_files(tmp_path)


def test_a_catalogue_without_entries(write: Path) -> None:
    with pytest.raises(MedllmError, match=r"has no entry of any source; set MEDLLM_INCLUDE"):
        all_sources()


def test_reading_the_catalogue_imports_no_parser() -> None:
    script = "import sys; from medllm_ops.sources import catalogue; catalogue(); print('lxml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def shipped() -> list[Entry]:
    files = sorted((Path(__file__).parents[2] / "include" / "datasets").glob("*.yaml"))
    return [read_entry(path) for path in files if path.name not in NO_ENTRIES]


@pytest.mark.parametrize("entry", shipped(), ids=lambda entry: entry.name)
def test_a_shipped_entry_fits_its_module(entry: Entry) -> None:
    assert entry.source.name == entry.name
    entry.fetch_settings()


ROW_FORMATS = ("alpaca", "conversations", "deepctrl", "disc_medllm", "messages", "preference", "query_response")
OWN_PAGES = ("pubmed", "clinicaltrials", "tcm_books", "docx")
PAGES = {**{name: name for name in OWN_PAGES}, **dict.fromkeys(ROW_FORMATS, "instruction_sets")}


@pytest.mark.parametrize("name", PAGES)
def test_a_source_has_a_page_that_says_how_to_run_it(name: str, repository: Path) -> None:
    page = repository / "docs" / "sources" / f"{PAGES[name]}.md"
    assert f"medllm-ops corpus refresh {name}" in page.read_text(encoding="utf-8")


def test_no_shipped_source_hides_behind_another() -> None:
    assert UNRECOGNISED not in {entry.name for entry in shipped()}
    assert len({entry.order for entry in shipped()}) == len(shipped())
