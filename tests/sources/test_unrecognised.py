from pathlib import Path

from medllm_ops.datasets.convert import convert_source
from medllm_ops.files import read_json_lines
from medllm_ops.sources import UNRECOGNISED, list_files


def test_a_file_that_no_source_knows_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "sft" / "odd.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"colour": "green"}\n', encoding="utf-8")
    assert list_files(tmp_path / "raw") == {UNRECOGNISED: [path]}
    ledger = convert_source(UNRECOGNISED, [str(path)], str(tmp_path / "out"))
    assert (ledger["in"], ledger["out"]) == (1, 0)
    (reject,) = read_json_lines(tmp_path / "out" / "rejects.jsonl")
    assert (reject["file"], reject["reason"]) == (str(path), "no source recognises its rows")
