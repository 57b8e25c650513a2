"""The steps of a run that makes its dataset, as far as the training, on the corpus and on a dataset that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medllm_ops import chain, steps
from medllm_ops.compute.places import place_for
from medllm_ops.datasets.store import find_dataset
from medllm_ops.datasets.verify import verify
from medllm_ops.errors import MedllmError
from medllm_ops.files import count_lines, read_json, read_json_lines
from medllm_ops.home import include
from medllm_ops.parameters import Parameters
from medllm_ops.plan import start
from medllm_ops.refresh.refresh import refresh_source
from medllm_ops.run import Run
from preferences import tiny_recipe, write_pairs
from servers.nlm import NlmMirror
from servers.pubmed_xml import article_set, citation

OFF = {"recipe": "tiny", "sft": False, "self_cognition": False, "serve": False}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NlmMirror]:
    """A home whose corpus has forty papers."""
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    with NlmMirror() as mirror:
        mirror.add("baseline", "pubmed26n0001.xml.gz", article_set([paper(number) for number in range(1, 41)]))
        refresh_source("pubmed", {"base_url": mirror.url})
        yield mirror


def paper(number: int, *, retracted: bool = False) -> str:
    words = [f"finding{number}{chr(97 + place)}" for place in range(20)]
    abstract = f"In study {number} we looked at {' and '.join(words)} in {number * 3} patients."
    return citation(number, abstract=abstract, retracted_type=retracted)


def run_until(last: str, name: str, **parameters: object) -> Run:
    run = Run.create(name, Parameters.check({**OFF, **parameters}))
    place = place_for("local")
    for step in chain.STEPS:
        step.execute(run, place)
        if step.name == last:
            break
    return run


def record_ids(folder: Path) -> set[str]:
    paths = folder.glob("*/pubmed.jsonl")
    return {row["id"] for path in paths for row in read_json_lines(path)}


def test_a_run_builds_a_dataset_of_the_corpus_and_another_takes_it(mirror: NlmMirror) -> None:
    run = run_until("export", "first", corpus="latest", rows_per_source=30, seed=7)
    assert run.curated.is_symlink()
    built = find_dataset(steps.RUN_DATASET)
    assert run.curated.resolve() == built.directory.resolve()
    assert list(verify(built)) == []
    assert len(record_ids(run.curated)) == 30
    assert record_ids(run.dataset) == record_ids(run.curated)
    assert (run.curated / "report" / "data_report.html").is_file()
    manifest = read_json(run.dataset / "manifest.json")["sets"]["pubmed"]
    assert manifest["train"] + manifest["val"] == 30
    other = run_until("sets", "second", dataset=steps.RUN_DATASET)
    assert read_json(other.plan_file)["sources"] == {}
    assert record_ids(other.sets) == record_ids(run.curated)
    assert count_lines(other.sets / "val" / "pubmed.jsonl") == manifest["val"]
    with pytest.raises(MedllmError, match="dataset medllm_train@1 has nothing of docx; it has pubmed"):
        run_until("plan", "lacking", dataset=steps.RUN_DATASET, sources=["docx"])
    with pytest.raises(MedllmError, match=r"there is no dataset 'other' \(datasets: medllm_train\)"):
        run_until("plan", "unknown", dataset="other")


def test_a_retracted_paper_stops_a_run_on_an_older_dataset_and_leaves_the_next(
    mirror: NlmMirror, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_until("curate", "first", corpus="latest")
    assert "pubmed:7" in record_ids(first.curated)
    before = record_ids(first.curated)
    mirror.add("updatefiles", "pubmed26n0002.xml.gz", article_set([paper(7, retracted=True)]))
    refresh_source("pubmed", {"base_url": mirror.url})
    with pytest.raises(MedllmError, match=r"1 of \d+ records to train on .* are retracted or deleted in version 2"):
        run_until("plan", "stopped", dataset=steps.RUN_DATASET, on_retracted="stop")
    run_until("plan", "warned", dataset=steps.RUN_DATASET)
    assert "are retracted or deleted in version 2" in caplog.text
    run_until("plan", "allowed", dataset=steps.RUN_DATASET, on_retracted="stop", max_retracted_share=0.1)
    second = run_until("curate", "second", corpus="latest")
    assert before - record_ids(second.curated) == {"pubmed:7"}
    assert find_dataset(steps.RUN_DATASET).version == 2


def test_a_source_that_the_corpus_lacks_is_named(mirror: NlmMirror) -> None:
    with pytest.raises(MedllmError, match="corpus version 1 has nothing of docx; it has pubmed"):
        run_until("plan", "none", corpus="latest", sources=["docx"])


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of raw files that has preference pairs only."""
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    write_pairs(tmp_path / "raw" / "sft" / "pairs.jsonl", 30)
    return tmp_path / "raw"


def only_alignment(raw: Path, recipe: Path, **parameters: object) -> Parameters:
    return Parameters.check(
        {**OFF, "pretrain": False, "dpo": True, "raw": str(raw), "recipe": str(recipe)} | parameters
    )


def test_a_run_is_aligned_where_its_recipe_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLLM_HOME", str(tmp_path / "home"))
    recipe = str(tiny_recipe(tmp_path / "aligned.yaml"))
    stages = {
        name: start(name, Parameters.check(values)).parameters.stages
        for name, values in {
            "recipe": {"recipe": recipe},
            "off": {"recipe": recipe, "dpo": False},
            "other": {"recipe": "tiny"},
        }.items()
    }
    off = {"pretrain": False, "sft": False, "self_cognition": False}
    assert start("alone", Parameters.check({**off, "recipe": recipe})).parameters.stages == ("dpo",)
    with pytest.raises(MedllmError, match="every stage is switched off"):
        start("none", Parameters.check({**off, "recipe": "tiny"}))
    three = ("pretrain", "sft", "self_cognition")
    assert stages == {"recipe": (*three, "dpo"), "off": three, "other": three}
    # What was decided is kept: the recipe may change or be gone.
    (tmp_path / "aligned.yaml").unlink()
    assert Run.open(tmp_path / "home" / "runs" / "recipe").parameters.dpo is True


@pytest.mark.parametrize("method", [pytest.param("dpo", marks=pytest.mark.slow), "kto"])
def test_pairs_reach_the_dataset_in_the_form_of_the_method(pairs: Path, tmp_path: Path, method: str) -> None:
    recipe = tiny_recipe(tmp_path / "aligned.yaml", rlhf_type=method)
    run, place = start(method, only_alignment(pairs, recipe)), place_for("local")
    for step in chain.STEPS[: [step.name for step in chain.STEPS].index("export") + 1]:
        step.execute(run, place)
    figures = read_json(run.dataset / "manifest.json")["sets"]["preference"]
    rows = list(read_json_lines(run.dataset / "train" / "preference.jsonl"))
    assert figures["stage"] == "dpo"
    assert len(rows) == figures["train"]
    assert figures["train"] + figures["val"] == (30 if method == "dpo" else 60)
    extra = "rejected_response" if method == "dpo" else "label"
    assert all(row.keys() == {"id", "messages", extra} for row in rows)


def test_what_a_run_lacks_for_its_alignment_is_named(pairs: Path, tmp_path: Path) -> None:
    demo, place = include() / "datasets" / "demo", place_for("local")
    recipe = tiny_recipe(tmp_path / "aligned.yaml")
    with pytest.raises(MedllmError, match="stage dpo is on, but none of alpaca has rows for it: switch it off"):
        steps.plan(start("none", only_alignment(demo, recipe, sources=["alpaca"])), place)
    with pytest.raises(MedllmError, match="recipe tiny has no stage dpo: it has pretrain, sft, self_cognition"):
        steps.plan(start("other", only_alignment(pairs, Path("tiny"))), place)
    recipe = tiny_recipe(tmp_path / "aligned.yaml", preference_sets=["alpaca"])
    with pytest.raises(MedllmError, match=r"preference_sets names alpaca, and this run has none of them: it has pref"):
        steps.plan(start("lacking", only_alignment(pairs, recipe)), place)
    recipe = tiny_recipe(tmp_path / "aligned.yaml", preference_sets=["alpacca"])
    with pytest.raises(MedllmError, match="there is no source 'alpacca'; did you mean alpaca"):
        steps.plan(start("unknown", only_alignment(pairs, recipe)), place)
