import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly import graph_objects

from medllm_ops.files import file_hash, read_json, read_json_lines, write_json, write_json_lines
from medllm_ops.report.data.build import build_data_report
from medllm_ops.report.data.text import visible

Change = Callable[[str, Callable[[Any], Any]], None]
Make = Callable[..., Path]
ATTACK = (
    "</td></script><script>document.title='taken'</script><img src=x onerror=alert(1)>\u202e\x1b{{ 7 * 7 }}\"' on=\"1"
)
SHOWN = ATTACK.replace("\u202e", "U+202E").replace("\x1b", "U+001B")
LOADING = {"src", "srcset", "data", "poster", "action", "background", "href"}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """The page as a browser reads it: its elements, its text, its scripts; elements must nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.headings: list[int] = []
        self.tables: list[bool] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and tag != "rect":
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append(False)
        if tag == "caption":
            self.tables[-1] = True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif self._open and self._open[-1] != "style":
            self.text += data

    @property
    def figures(self) -> list[graph_objects.Figure]:
        return [
            graph_objects.Figure(json.loads(attrs["data-figure"] or ""))
            for _, attrs in self.elements
            if "data-figure" in attrs
        ]


def page_of(folder: Path, previous: Path | None = None) -> Page:
    return Page(build_data_report(folder, previous))


def poisoned(folder: Path) -> Iterator[Path]:
    """Put the attack wherever a dataset has text that somebody else wrote."""
    for path in sorted(folder.rglob("*.jsonl")):
        rows = [_poison(row) for row in read_json_lines(path)]
        write_json_lines(path, rows)
        yield path
    for name in ("marks.json", "decontamination.json"):
        value = read_json(folder / "data" / name)
        write_json(folder / "data" / name, _poison(value, keys=name == "marks.json"))


def _poison(value: Any, keys: bool = False, name: str = "") -> Any:
    if isinstance(value, dict):
        return {f"{key}{ATTACK}" if keys else key: _poison(each, keys, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_poison(each, keys, name) for each in value]
    return f"{value}{ATTACK}" if isinstance(value, str) and name not in ("role", "step") else value


@pytest.fixture
def attacked(dataset: Path) -> Path:
    list(poisoned(dataset))
    manifest = read_json(dataset / "manifest.json")
    for source, figures in manifest["sources"].items():
        for side in ("train", "val"):
            figures["hashes"][side] = file_hash(dataset / side / f"{source}.jsonl")
        figures["licences"] = {ATTACK: 3}
        figures["languages"] = {ATTACK: 3}
    manifest["settings"]["sets"] = {ATTACK: {}}
    manifest["inputs"][0]["name"] = ATTACK
    write_json(dataset / "manifest.json", manifest)
    ledger = read_json(dataset / "ledger.json")
    ledger.append({"step": "read", "source": ATTACK, "in": 1, "out": 0, "dropped": {ATTACK: 1}})
    write_json(dataset / "ledger.json", ledger)
    return dataset


def test_what_anybody_wrote_stays_text(make: Make, attacked: Path) -> None:
    plain = page_of(make("plain"))
    page = page_of(attacked, make("previous", shift=3, changed=3))
    assert page.scripts == plain.scripts
    assert not {"img", "iframe", "base", "form"} & {tag for tag, _ in page.elements}
    assert not [attrs for _, attrs in page.elements if {"onerror", "on", "onload"} & attrs.keys()]
    in_names = visible(ATTACK)
    assert page.text.count(SHOWN) > 15
    assert page.text.count(in_names) > 40
    raw = (attacked / "report" / "data_report.html").read_text(encoding="utf-8")
    style, _, rest = raw.partition("<script>")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", style)
    assert rest


def test_a_hostile_name_cannot_leave_a_chart(attacked: Path) -> None:
    page = page_of(attacked)
    (names,) = {tuple(bar.y) for bar in page.figures[0].data}
    assert any("<script>" in name and "[U+202E]" in name for name in names)


def test_nothing_is_loaded_from_anywhere(dataset: Path) -> None:
    page = page_of(dataset, dataset)
    loaded = [(tag, attrs[name]) for tag, attrs in page.elements for name in LOADING & attrs.keys()]
    assert loaded
    assert [where for where in loaded if not (where[1] or "").startswith("#")] == []
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    (policy,) = [attrs["content"] or "" for tag, attrs in page.elements if attrs.get("http-equiv")]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_the_page_can_be_read_without_seeing_it(dataset: Path, make: Make) -> None:
    page = page_of(make("later", changed=4, shift=4), dataset)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(below - above <= 1 for above, below in zip(page.headings, page.headings[1:], strict=False))
    assert page.tables
    assert all(page.tables)
    for tag, attrs in page.elements:
        if attrs.get("role") == "img":
            assert attrs.get("aria-label"), tag
        if tag == "th":
            assert attrs.get("scope") in ("col", "row")
        if attrs.get("role") == "region":
            assert attrs.get("aria-label")
        if attrs.get("class") == "scroll":
            assert attrs.get("tabindex") == "0"
    anchors = {attrs["href"] for _, attrs in page.elements if "href" in attrs}
    assert anchors <= {f"#{attrs['id']}" for _, attrs in page.elements if "id" in attrs}
    assert dict(page.elements)["html"] == {"lang": "en"}


def test_the_verdict_comes_first(dataset: Path, change: Change) -> None:
    page = page_of(dataset)
    assert "\nTo look at: 1 thing\n" in page.text
    assert "To look at: 2026-11" in page.text
    assert page.text.index("220 rows have no known licence") < page.text.index("Rows read")
    change("ledger.json", lambda rows: rows[0].update(out=1))
    page = page_of(dataset)
    assert "\nWrong: 2 things; to look at: 1 more\n" in page.text
    assert page.text.index("This does not hold") < page.text.index("220 rows have no known licence")
    assert "does not hold" in page.text


def test_a_good_dataset_says_so(make: Make, source: Any) -> None:
    page = page_of(make("good", {"docx": source("en", 300)}))
    assert "Nothing wrong: 7 checks passed" in page.text


def test_the_funnel_chart_shows_every_row(dataset: Path) -> None:
    (fates,) = page_of(dataset).figures
    assert [bar.name for bar in fates.data] == [
        "train",
        "validation",
        "read",
        "clean",
        "scrub",
        "exact dedup",
        "near dedup",
        "decontaminate",
        "split",
        "sample",
        "chunk",
    ]
    for number in range(4):
        assert sum(bar.x[number] for bar in fates.data) == pytest.approx(100)
    assert sum(sum(bar.customdata) for bar in fates.data) == 1438


def test_the_drift_charts_show_both_datasets(dataset: Path, make: Make, source: Any) -> None:
    before = make("before", {"docx": source("en", 300), "alpaca": source("zh", 100)})
    _, *drifts = page_of(dataset, before).figures
    assert len(drifts) == 4
    sources = drifts[0]
    assert [bar.name for bar in sources.data] == ["before", "now"]
    shares = dict(zip(sources.data[0].x, sources.data[0].y, strict=True))
    assert shares["docx"] == 75
    assert shares["pubmed"] == 0


def test_every_sample_has_its_own_place(dataset: Path) -> None:
    page = page_of(dataset)
    for text in (
        "A dropped text, number 0, of ⟨NAME⟩.",
        "桂枝汤方：桂枝三两",
        "a patient of 54 years has",
        "which of the following",
        "999-9999-9999",
        "call ⟨PHONE⟩ before ## a.m.",
        "CC-BY-NC-4.0",
        "ab" * 16,
        "chunk.max_tokens",
    ):
        assert text in page.text, text
