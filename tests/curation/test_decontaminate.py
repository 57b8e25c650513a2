from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation import made
from medllm_ops.curation.decontaminate import Decontamination, Judgement
from medllm_ops.curation.evalsets import Item, read_items
from medllm_ops.curation.overlap import DecontaminationSettings, Gram, GramIndex, characters_of, words_of
from medllm_ops.curation.parts import rows_of
from medllm_ops.curation.workers import workers
from medllm_ops.errors import MedllmError, UnreadableFileError
from medllm_ops.files import write_json_lines

Row = dict[str, Any]
Run = Callable[..., Judgement]

SETS = Path(__file__).parent / "evalsets"
ALL = sorted(SETS.iterdir())
KEEPER = "58-year-old lighthouse keeper comes to the harbour clinic because of three weeks of hiccups"
PUBMEDQA = "pubmedqa_like.json#90000001"
CAPSULES = "某虚构诊所将二十四粒蓝色胶囊分装为三盘后少了一粒"


def row(id_: str, *turns: str, **more: Any) -> Row:
    roles = ["user", "assistant"] if len(turns) > 1 else ["assistant"]
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
    return {"id": id_, "messages": messages, **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    calls = iter(range(10**6))

    def do(
        sets: dict[str, list[Row]] | list[Row],
        evalsets: list[Path] = ALL,
        *,
        settings: DecontaminationSettings | None = None,
        worker_count: int = 1,
    ) -> Judgement:
        folder = tmp_path / str(next(calls))
        sets = sets if isinstance(sets, dict) else {"a": sets}
        for name, rows in sets.items():
            write_json_lines(folder / "rows" / f"{name}.jsonl", rows)
        step = Decontamination(evalsets, settings or DecontaminationSettings())
        with workers(worker_count) as run:
            step.find([folder], folder / "work", run)
        assert not (folder / "work").exists()
        judgement = step.judge([folder], lambda *_: True)
        for said in judgement.removed:
            assert said.pop("segment") == str(folder)
        return judgement

    return do


def removed(found: Judgement) -> dict[str, str]:
    return {row["id"]: f"{row['file']}#{row['item']}" for row in found.removed}


@pytest.mark.parametrize(
    ("text", "item"),
    [
        (f"He said: A {KEEPER}!", "medqa_like.jsonl#line 1"),
        (KEEPER.upper().replace(" ", "\n ").replace("-", " - "), "medqa_like.jsonl#line 1"),
        ("…repaint the stairwell with the same paint and measure the number of hiccups", "medqa_like.jsonl#line 1"),
        (f"问：{CAPSULES}，怎么办", "cmmlu_like.csv#0"),
        ("\n".join(CAPSULES), "cmmlu_like.csv#0"),
        (f"The Chinese item reads {CAPSULES} in full", "cmmlu_like.csv#0"),
        (f"英文原题是：A {KEEPER}，请翻译。", "medqa_like.jsonl#line 1"),
        ("do painted stairwells prolong hiccups in keepers of imaginary lighthouses on northern coasts", PUBMEDQA),
        ("paint on the walls of a stairwell did not change how long the hiccups", PUBMEDQA),
        ("the apprentice of the imaginary apothecary tells a spoiled syrup from a fresh one", "plain.txt#paragraph 1"),
        ("请按讲义所载次序说出学徒辨别虚构糖浆变质的七个征象", "plain.txt#paragraph 2"),
    ],
)  # fmt: skip
def test_rows_that_hold_an_item_are_named(run: Run, text: str, item: str) -> None:
    assert removed(run([row("x", text), row("y", "fever and cough")])) == {"x": item}


@pytest.mark.parametrize(
    "text",
    [
        "",
        # Twelve words of an item, and nineteen characters.
        " ".join(words_of(KEEPER)[:12]),
        characters_of(CAPSULES)[:19],
        "Short one? The drug of choice? 太短的题？",
        # The same words in another order.
        " ".join(reversed(words_of(KEEPER))),
    ],
)
def test_less_than_an_ngram_is_nothing(run: Run, text: str) -> None:
    assert removed(run([row("x", text)])) == {}


def test_a_short_question_counts_whole(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    items = [
        {
            "question": "Which herb heals the ninth imaginary fever best?",
            "answer": "the long forgotten root of all imaginary fevers",
        },
        {"question": "哪味药主治第九种虚构热病最佳"},
    ]
    write_json_lines(path, items)
    rows = [
        row("a", "Tell me, which herb heals the ninth imaginary fever best, please"),
        row("b", "Which herb heals the ninth imaginary fever?"),
        row("c", "请问：哪味药主治第九种虚构热病最佳？"),
        row("d", "哪味药主治第九种虚构热病"),
        # An answer of so few words may stand anywhere.
        row("e", "The long forgotten root of all imaginary fevers"),
    ]
    assert removed(run(rows, [path])) == {"a": "short.jsonl#line 1", "c": "short.jsonl#line 2"}


def test_every_turn_and_the_rejected_answer_count(run: Run) -> None:
    rows = [
        row("a", KEEPER, "Wait."),
        row("b", "What then?", KEEPER),
        row("c", "What then?", "Wait.", rejected_response=KEEPER),
    ]
    assert set(removed(run(rows))) == {"a", "b", "c"}


def test_what_is_said_of_a_removed_row(run: Run) -> None:
    found = run({"s": [row("p", "fever")], "t": [row("x", "Indeed a " + KEEPER + " and then nothing.")]})
    (said,) = found.removed
    assert said == {
        "id": "x",
        "step": "decontaminate",
        "reason": "overlap with an evaluation set",
        "source": "t",
        "position": 0,
        "file": "medqa_like.jsonl",
        "item": "line 1",
        "share": said["share"],
        "overlap": "a 58 year old lighthouse keeper comes to the harbour clinic because of three weeks of hiccups",
        "items": 1,
    }
    # 17 words in common are 5 n-grams of 13; the item's question has 26, and its longest option 9.
    assert said["share"] == pytest.approx(5 / 35, abs=1e-4)
    by_file = {entry["file"]: entry for entry in found.report["evalsets"]}
    assert by_file["medqa_like.jsonl"]["items"] == 2
    assert by_file["medqa_like.jsonl"]["too_short"] == 1
    assert by_file["medqa_like.jsonl"]["items_found"] == by_file["medqa_like.jsonl"]["rows_removed"] == 1
    assert by_file["mmlu_like.csv"]["too_short"] == 1
    assert by_file["plain.txt"]["rows_removed"] == 0


def test_a_common_phrase_is_no_overlap_but_a_whole_item_is(run: Run, tmp_path: Path) -> None:
    phrase = "of the following is the most appropriate next step in this tower at night"
    item = "which " + phrase + " when the imaginary keeper has lost his only key to the painted stairwell"
    rows = [row(f"r{number}", f"case {number}: {phrase}") for number in range(12)]
    rows += [row(f"w{number}", f"case {number}: {item}") for number in range(12)]
    assert removed(run(rows)) == {}
    few = DecontaminationSettings(common=24)

    def with_item(**more: Any) -> Judgement:
        return run([*rows], [item_file], **more)

    item_file = _written(tmp_path, item)
    assert set(removed(with_item())) == {f"w{number}" for number in range(12)}
    assert set(removed(with_item(settings=few))) == {item["id"] for item in rows}
    assert with_item().report["common_ngrams"] > 0
    assert with_item().report["common"][0] == {"text": " ".join(phrase.split()[:13]), "rows": 24}
    assert with_item(settings=DecontaminationSettings(common=0)).report["common"] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_question_that_leaked_often_without_its_long_answer_is_no_phrase(
    run: Run, tmp_path: Path, language: str
) -> None:
    question, answer = made.text(1, language, 30), made.text(2, language, 90)
    path = tmp_path / "item.jsonl"
    write_json_lines(path, [{"question": question, "answer": answer}])
    rows = [row(f"r{number}", f"{made.text(number + 9, language)} {question}") for number in range(12)]
    half = answer[: len(answer) // 2]
    rows += [row(f"half{number}", f"{made.text(number + 99, language)} {half}") for number in range(12)]
    assert set(removed(run(rows, [path]))) == {f"r{number}" for number in range(12)}


def _written(folder: Path, item: str) -> Path:
    path = folder / "item.jsonl"
    write_json_lines(path, [{"question": item}])
    return path


def test_fields_can_be_left_out(run: Run) -> None:
    rows = [
        row("x", "forty keepers of imaginary lighthouses to climb painted and unpainted stairwells in random order")
    ]
    assert set(removed(run(rows))) == {"x"}
    assert removed(run(rows, settings=DecontaminationSettings(fields=("question", "answer")))) == {}


def test_two_files_of_one_name_and_bad_files_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match=r"two evaluation sets are named plain.txt"):
        run([], [SETS / "plain.txt", tmp_path / "plain.txt"])
    with pytest.raises(UnreadableFileError, match="the evaluation set is missing"):
        run([], [tmp_path / "none.txt"])
    with pytest.raises(ValueError, match="is more than size"):
        Gram(size=3, shortest=4)


def test_a_file_that_changed_is_read_again(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "set.txt"
    path.write_text("one two three four five six seven eight")
    rows = [row("x", "nine ten eleven twelve thirteen fourteen fifteen sixteen")]
    assert removed(run(rows, [path])) == {}
    path.write_text("nine ten eleven twelve thirteen fourteen fifteen sixteen")
    assert set(removed(run(rows, [path]))) == {"x"}


SMALL = DecontaminationSettings(
    words=Gram(size=3, shortest=2), characters=Gram(size=3, shortest=2), common=2, share=0.7
)
TEXT = st.lists(st.sampled_from(["a", "b", "c", "甲", "乙", " 丙 ", "."]), max_size=10).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=4), st.lists(TEXT, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=80)
def test_it_is_what_a_plain_search_finds(run: Run, tmp_path: Path, questions: list[str], texts: list[str]) -> None:
    path = tmp_path / "set.jsonl"
    write_json_lines(path, [{"question": question or "?"} for question in questions])
    rows = [row(f"r{number}", text) for number, text in enumerate(texts)]

    def grams(tokens: Any, kind: str, *, question: bool) -> set[tuple[str, ...]]:
        whole = {(kind, *tokens[start : start + 3]) for start in range(len(tokens) - 2)}
        return whole or ({(kind, *tokens)} if question and len(tokens) == 2 else set())

    def of_item(text: str) -> set[tuple[str, ...]]:
        han = any(one in text for one in "甲乙丙")
        found = grams(words_of(text), "w", question=True)
        return found | (grams(characters_of(text), "c", question=True) if han else set())

    def of_row(text: str) -> set[tuple[str, ...]]:
        han = any(one in text for one in "甲乙丙")
        found: set[tuple[str, ...]] = set()
        for kind, tokens in (("w", words_of(text)), ("c", characters_of(text) if han else "")):
            for size in (2, 3):
                found |= {(kind, *tokens[start : start + size]) for start in range(len(tokens) - size + 1)}
        return found

    items = [of_item(question) for question in questions]
    known = set().union(*items)
    in_rows = [of_row(text) & known for text in texts]
    frequency = {gram: sum(gram in one for one in in_rows) for gram in known}
    expected = {
        f"r{number}"
        for number, found in enumerate(in_rows)
        for item in items
        if any(frequency[gram] <= 2 for gram in found & item)
        or (item and len(found & item) / len(item) >= 0.7)
    }  # fmt: skip
    assert set(removed(run(rows, [path], settings=SMALL))) == expected


@given(st.permutations(range(8)), st.integers(1, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_the_order_of_rows_and_files_does_not_matter(run: Run, order: list[int], files: int) -> None:
    paint = "Paint on the walls of a stairwell did not change how long the hiccups"
    texts = [KEEPER, CAPSULES, "fever", "cough", f"{KEEPER} {CAPSULES}", "rest", "tea", paint]
    rows = [row(f"r{number}", text) for number, text in enumerate(texts)]
    shuffled = [rows[number] for number in order]
    one = run(rows)
    other = run({f"f{number}": shuffled[number::files] for number in range(files)}, ALL[::-1])
    for line in [*one.removed, *other.removed]:
        del line["source"], line["position"]
    assert one == other
    assert set(removed(one)) == {"r0", "r1", "r4", "r7"}


def test_workers_change_no_byte(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(f"r{number}", [KEEPER, CAPSULES, f"fever {number}"][number % 3]) for number in range(30)]
    monkeypatch.setattr("medllm_ops.curation.parts.parts.__defaults__", (500,))
    one, two = run(rows), run(rows, worker_count=2)
    assert one == two
    assert len(one.removed) == 20


def test_a_segment_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [tmp_path / "1", tmp_path / "2"]
    for number, segment in enumerate(segments):
        write_json_lines(segment / "rows" / "a.jsonl", [row(f"r{number}", KEEPER)])
    searched: list[str] = []

    def find(settings: DecontaminationSettings, *, evalsets: list[Path] = ALL) -> Judgement:
        step = Decontamination(evalsets, settings)
        monkeypatch.setattr("medllm_ops.curation.decontaminate.rows_of", lambda job: seen(rows_of, job))
        with workers(1) as run:
            step.find(segments, tmp_path / "work", run)
        return step.judge(segments, lambda *_: True)

    def seen(rows: Callable[[Any], Any], job: Any) -> Any:
        searched.append(Path(job["file"]).parts[-3])
        return rows(job)

    first = find(DecontaminationSettings())
    assert set(removed(first)) == {"r0", "r1"}
    assert find(DecontaminationSettings()) == first
    assert searched == ["1", "2"]
    segments.append(tmp_path / "3")
    write_json_lines(segments[2] / "rows" / "a.jsonl", [row("r2", KEEPER)])
    assert set(removed(find(DecontaminationSettings()))) == {"r0", "r1", "r2"}
    assert searched == ["1", "2", "3"]
    # Other settings or other sets tell something else.
    assert find(DecontaminationSettings(), evalsets=[SETS / "plain.txt"]).removed == []
    find(DecontaminationSettings(share=0.5))
    assert searched == ["1", "2", "3"] * 3
    # Without any, nothing is searched.
    assert find(DecontaminationSettings(), evalsets=[]).report["evalsets"] == []
    assert len(searched) == 9


def test_a_search_that_fails_leaves_nothing_behind_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    segment = tmp_path / "1"
    write_json_lines(segment / "rows" / "a.jsonl", [row("r", KEEPER)])
    step = Decontamination(ALL, DecontaminationSettings())

    def fail(_function: Any, _jobs: Any) -> list[Any]:
        raise MedllmError("a worker died")

    with pytest.raises(MedllmError, match="a worker died"):
        step.find([segment], tmp_path / "work", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    with workers(1) as run:
        step.find([segment], tmp_path / "work", run)
    assert set(removed(step.judge([segment], lambda *_: True))) == {"r"}


def test_rows_that_do_not_live_count_nowhere(tmp_path: Path) -> None:
    phrase = "of the following is the most appropriate next step in this tower at night"
    path = tmp_path / "set.jsonl"
    write_json_lines(path, [{"question": f"{KEEPER} {phrase}"}])
    segments = [tmp_path / "1", tmp_path / "2"]
    for number, segment in enumerate(segments):
        write_json_lines(segment / "rows" / "a.jsonl", [row(f"r{number}{n}", phrase) for n in range(8)])
    step = Decontamination([path], DecontaminationSettings())
    with workers(1) as run:
        step.find(segments, tmp_path / "work", run)
    # In sixteen rows it is a phrase, in eight of them it is an overlap.
    assert step.judge(segments, lambda *_: True).removed == []
    only = step.judge(segments, lambda segment, source, position: segment == segments[1] and source == "a")
    assert {said["id"] for said in only.removed} == {f"r1{n}" for n in range(8)}
    none = step.judge(segments, lambda segment, source, position: position < 0)
    assert none.removed == []


def test_slots_that_two_runs_share_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medllm_ops.curation.overlap._slots_of", lambda hashes: hashes.astype("int64") * 0)
    items = list(enumerate(read_items(SETS / "plain.txt")))
    index = GramIndex(items, Gram(size=13, shortest=8), ("question",), words=True)
    texts = [words_of("one two three four five six seven eight nine"), words_of(items[0][1].texts[0][1])]
    found = index.find(texts)
    assert found[0] == []
    assert len(found[1]) == len(index) == len(texts[1]) - 12
    assert index.text(found[1][0].gram) == " ".join(texts[1][:13])


def test_an_index_of_nothing_finds_nothing() -> None:
    index = GramIndex([(0, Item("f", "x", (("question", "?"),)))], Gram(size=3, shortest=2), ("question",), words=True)
    assert index.find([["a", "b", "c"], []]) == [[], []]
