"""Text dumps come from a place, pages from the site."""

from pathlib import Path

from medllm_ops.fetch.base import Known
from medllm_ops.fetch.http import Client
from medllm_ops.fetch.tcm_books import Settings, fetch


def test_with_a_location_no_site_is_asked(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    (dumps / "a.txt").write_text("<篇名>甲", encoding="gb18030")
    settings = Settings(location=str(dumps), base_url="http://127.0.0.1:9/", attempts=1)
    with Client() as client:
        names = [raw.name for raw in fetch(settings, Known(), tmp_path / "spool", client)]
    assert names == ["dumps/a.txt"]
