import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly import graph_objects

from medllm_ops.report.build import build_report
from medllm_ops.report.html import change as loss_change
from medllm_ops.report.page import count, decimal, duration, moment, plain, scientific

Change = Callable[[str, Callable[[Any], Any]], None]
ATTACK = '</td></script><script>document.title="taken"</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'
LOADING = {"src", "srcset", "data", "poster", "action", "background", "href"}


class Page(HTMLParser):
    """The page as a browser reads it: its elements, its text, its scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.text += data

    @property
    def figures(self) -> list[graph_objects.Figure]:
        return [
            graph_objects.Figure(json.loads(attrs["data-figure"] or ""))
            for _, attrs in self.elements
            if "data-figure" in attrs
        ]


def page_of(run_dir: Path) -> Page:
    build_report(run_dir)
    return Page(run_dir / "report.html")


def test_what_a_model_wrote_stays_text(run_dir: Path, change: Change) -> None:
    clean = page_of(run_dir)
    change("evaluation/identity.json", lambda row: row["prompts"][0].update(after=ATTACK, before=ATTACK))
    change("evaluation/identity.json", lambda row: row["controls"][0].update(after=ATTACK, reference=ATTACK))
    change("serving/serving.json", lambda row: row.update(answer=ATTACK, prompt=ATTACK))
    change("run.json", lambda row: row["parameters"].update(name_en=ATTACK))
    change("convert/docx/ledger.json", lambda row: row.update({"out": 37, "dropped": {ATTACK: 1}}))
    change("evaluation/heldout.json", lambda row: row["gates"][0].update(detail=ATTACK))
    page = page_of(run_dir)
    assert page.scripts == clean.scripts
    assert page.text.count(ATTACK) >= 9
    assert not [tag for tag, _ in page.elements if tag == "img"]


def test_a_hostile_name_cannot_leave_a_chart(run_dir: Path, change: Change) -> None:
    name = "'\"><script>alert(1)</script>"
    change("evaluation/heldout.json", lambda row: row["sources"].update({name: row["sources"]["docx"]}))
    page = page_of(run_dir)
    assert len(page.scripts) == 2
    assert name in page.figures[-1].layout.yaxis.categoryarray


def test_nothing_is_loaded_from_anywhere(run_dir: Path) -> None:
    page = page_of(run_dir)
    loaded = [(tag, attrs[name]) for tag, attrs in page.elements for name in LOADING & attrs.keys()]
    assert loaded
    assert [where for where in loaded if not (where[1] or "").startswith("#")] == []
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    style = (run_dir / "report.html").read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "{" in style
    assert not re.search(r"url\(|@import", style)


def test_the_policy_lets_exactly_the_pages_own_scripts_run(run_dir: Path) -> None:
    page = page_of(run_dir)
    (policy,) = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv")]
    assert policy is not None
    assert "default-src 'none'" in policy
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert len(page.scripts[0]) > 1_000_000


def test_the_charts_show_the_figures(run_dir: Path) -> None:
    fates, *curves, held_out = page_of(run_dir).figures
    assert [bar.name for bar in fates.data] == [
        "trained on",
        "held out",
        "rejected in conversion",
        "duplicate",
        "out in the export",
    ]
    for number in range(7):
        assert sum(bar.x[number] for bar in fates.data) == pytest.approx(100)
    assert len(curves) == 3
    assert curves[0].data[0].y[-1] == 2.94
    assert list(curves[0].data[1].x) == [8, 16, 24, 32, 40, 48]
    by_name = {trace.name: trace for trace in held_out.data}
    assert list(by_name["after pretraining"].x)[:2] == [2.871, 2.413]
    assert by_name["final"].y[0] == "pubmed"


def test_the_verdict_comes_first_and_names_what_failed(run_dir: Path, change: Change) -> None:
    assert "Passed: all 23 gates" in page_of(run_dir).text
    change("evaluation/identity.json", lambda row: row["prompts"][2].update(ok=False))
    page = page_of(run_dir)
    assert "Failed: 1 of 23 gates did not pass" in page.text
    assert page.text.index("the model knows who it is") < page.text.index("Time of all tasks")
    assert "Failed: demo-1f2e3d4c" in page.text


def test_chinese_answers_are_marked_as_such(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert "您可以叫我杏林小医。" in page.text
    assert [attrs for _, attrs in page.elements if attrs.get("lang") == "zh"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_figures_are_written_for_people() -> None:
    assert [count(12345), count(None)] == ["12,345", "–"]
    assert [decimal(-0.5, 1, signed=True), decimal(2.0), decimal(None)] == ["−0.5", "2.000", "–"]
    assert [scientific(4.8e-07), scientific(0.0), scientific(None)] == ["4.8e−07", "0", "–"]
    assert [moment("2026-11-24T10:00:00+0000"), moment(None)] == ["24 November 2026, 10:00 +0000", "–"]
    assert [plain(True), plain(["a", "b"]), plain(None), plain(0)] == ["yes", "a, b", "–", "0"]


def test_the_change_is_against_the_model_before_it() -> None:
    losses: Any = {"base": 2.0, "sft": 1.0, "final": 1.02}
    assert loss_change(losses, "base") is None
    assert loss_change(losses, "pretrain") is None
    assert loss_change(losses, "sft") == pytest.approx(-50)
    assert loss_change(losses, "final") == pytest.approx(2)
