from pathlib import Path

import pytest

from medllm_ops.errors import MedllmError
from medllm_ops.sources import UNRECOGNISED, all_sources, get_source, list_files, sniff

ROWS = {
    "alpaca": '{"instruction": "q", "input": "", "output": "a"}',
    "deepctrl": '{"id": 1, "instruction": "", "input": "q", "output": "a", "history": [], "data_source": "x"}',
    "disc_medllm": '{"_id": "1", "conversation": [{"role": "user", "content": "q"}]}',
    "messages": '{"messages": [{"role": "user", "content": "q"}]}',
    "conversations": '{"conversations": [{"from": "human", "value": "q"}]}',
    "query_response": '{"response": "text"}',
    "preference": '{"conversations": [{"from": "human", "value": "q"}], "chosen": "a", "rejected": "b"}',
}


def test_names_are_unique_and_found() -> None:
    names = [source.name for source in all_sources()]
    assert len(set(names)) == len(names) == 11
    assert all(get_source(name).name == name for name in names)
    assert [get_source(alias).name for alias in ("tcm", "disc", "swift")] == ["tcm_books", "disc_medllm", "messages"]


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(MedllmError, match=r"no source 'pub_med'; did you mean pubmed\?.*clinicaltrials.*preference"):
        get_source("pub_med")
    with pytest.raises(MedllmError, match=r"no source 'zzz' \(sources: pubmed"):
        get_source("zzz")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_sniff_by_the_keys(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"not json\n[1]\n{ROWS[name]}\n")
    found = sniff(path)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ('{"conversation": [{"human": "q", "assistant": "a"}]}', "conversations"),
        ('{"messages": [], "rejected_response": "b"}', "preference"),
        ('{"query": "q", "response": "a", "rejected_response": "b"}', "preference"),
        ('{"_id": "1", "other": 2}', None),
    ],
)
def test_sniff_the_narrower_format_first(tmp_path: Path, row: str, name: str | None) -> None:
    (tmp_path / "rows.txt").write_text(row)
    found = sniff(tmp_path / "rows.txt")
    assert (found.name if found else None) == name


def test_sniff_csv_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("instruction,output\n问,答\n".encode("gbk"))
    found = sniff(path)
    assert found is not None
    assert found.name == "alpaca"


def test_every_file_is_assigned(tmp_path: Path) -> None:
    files = {
        "pubmed/a/pubmed26n0001.xml.gz": "",
        "pubmed/a/pubmed26n0001.xml.gz.md5": "",
        "pubmed/pubmed_250101.dtd": "",
        "pubmed/sub/1.xml": "",
        "clinicaltrials/single/NCT1.json": "",
        "tcm_books/001-书.txt": "",
        "docx/b.docx": "",
        "docx/A.docx": "",
        "docx/~$b.docx": "",
        "docx/.hidden.docx": "",
        "sft/.cache/x.jsonl": ROWS["alpaca"],
        "sft/README.md": "",
        "sft/sub/rows.jsonl": ROWS["alpaca"],
        "sft/rows.json": f"[{ROWS['messages']}]",
        "sft/empty.jsonl": "",
        "sft/picture.png": "\x89PNG",
        "other/x.txt": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {name: [str(p.relative_to(tmp_path)) for p in paths] for name, paths in list_files(tmp_path).items()}
    assert found == {
        "pubmed": ["pubmed/a/pubmed26n0001.xml.gz", "pubmed/sub/1.xml"],
        "clinicaltrials": ["clinicaltrials/single/NCT1.json"],
        "tcm_books": ["tcm_books/001-书.txt"],
        "docx": ["docx/A.docx", "docx/b.docx"],
        "alpaca": ["sft/sub/rows.jsonl"],
        "messages": ["sft/rows.json"],
        UNRECOGNISED: ["sft/empty.jsonl", "sft/picture.png"],
    }


def test_a_raw_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MedllmError, match="no folder of raw files; give one with pubmed, clinicaltrials"):
        list_files(tmp_path / "none")


def test_every_real_file_is_assigned(samples: Path) -> None:
    found = list_files(samples)
    counts = {name: len(paths) for name, paths in found.items()}
    assert UNRECOGNISED not in counts
    assert sum(counts.values()) == sum(
        path.is_file() and path.suffix not in (".md", ".dtd") for path in samples.rglob("*")
    )
    assert counts["query_response"] == 9
    assert (counts["tcm_books"], counts["docx"], counts["conversations"]) == (44, 15, 3)
