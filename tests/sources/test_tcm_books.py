import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medllm_ops.errors import UnreadableFileError
from medllm_ops.records import Document, Reject, record_to_row
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.tcm_books import SOURCE, parse
from medllm_ops.sources.tcm_records import LICENCE, MAX_CHARACTERS

HEAD = "\n<篇名>百草小识\n书名：百草小识\n作者：无名氏  \n朝代：清  \n年份：公元1700年  \n\n\n"
SECTIONS = [
    "\n<目录>卷上\\草部\n\n<篇名>甘草\n\n"
    "内容：味甘，性平，入脾经，能和诸药，调中气，缓急迫，凡方中用之者十居七八，故 \n称国老。 \n治咳嗽。 \n\n\n",
    "\n<目录>卷上\\草部\n\n<篇名>人参\n\n属性：\\r人参\\pq1.bmp\\r \n味甘微苦，补气生津。 \n\n\n",
    "\n<目录>卷下\n\n<篇名>图\n\n属性：\\r图\\pG-G1.bmp\\r \n\n\n",
    "\n<目录>卷下\n\n<篇名>茯苓\n\n内容：味淡，渗湿利水，与白术同用则健脾。 \n"
    "人参 白术 茯苓 甘草 \n上为末，每服二钱。 \n\n\n",
    "\n<目录>\n\n<篇名>KT\n\n内容：青葙子（《本草》云味苦，微寒。） \n",
]


def read(tmp_path: Path, text: str | bytes, encoding: str = "gb18030", name: str = "001-百草小识.txt") -> list[Parsed]:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return list(parse(path))


def documents(found: list[Parsed]) -> list[Document]:
    return [item for item in found if isinstance(item, Document)]


def rejects(found: list[Parsed]) -> list[tuple[str, str]]:
    return [(item.position, item.reason) for item in found if isinstance(item, Reject)]


def test_a_section_is_a_document_with_its_book(tmp_path: Path) -> None:
    found = read(tmp_path, HEAD + "".join(SECTIONS))
    first = documents(found)[0]
    assert first.text == (
        "《百草小识》甘草\n味甘，性平，入脾经，能和诸药，调中气，缓急迫，凡方中用之者十居七八，故称国老。\n治咳嗽。"
    )
    assert first.title == "《百草小识》（清，无名氏，公元1700年）卷上·草部·甘草"
    assert (first.language, first.licence, first.source) == ("zh", LICENCE, "tcm_books")
    assert first.url == "https://www.zysj.com.cn/"
    assert [item.text.split("\n")[0] for item in documents(found)] == [
        "《百草小识》甘草",
        "《百草小识》人参",
        "《百草小识》茯苓",
        "《百草小识》",
    ]
    assert rejects(found) == [("section 3", "empty section")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_newlines_change_nothing(tmp_path: Path, encoding: str, newline: str) -> None:
    text = HEAD + "".join(SECTIONS)
    assert read(tmp_path, text.replace("\n", newline), encoding) == read(tmp_path, text)


def test_characters_that_only_gb18030_has_and_private_ones(tmp_path: Path) -> None:
    (found,) = documents(read(tmp_path, HEAD + "<篇名>字\n内容：㐀𠀀\ue5e5甲。"))
    assert found.text.endswith("㐀𠀀甲。")


def test_bad_bytes_cost_themselves_only(tmp_path: Path) -> None:
    whole = (HEAD + "".join(SECTIONS)).encode("gb18030")
    expected = read(tmp_path, whole)
    found = read(
        tmp_path, whole.replace("国老".encode("gb18030"), "国".encode("gb18030") + b"\xff" + "老".encode("gb18030"))
    )
    assert found == expected


def test_ids_survive_changes_of_other_sections(tmp_path: Path) -> None:
    before = read(tmp_path, HEAD + "".join(SECTIONS), name="001-a.txt")
    after = read(tmp_path, HEAD + "".join([SECTIONS[3], SECTIONS[0].replace("国老", "国"), SECTIONS[1]]), name="b.txt")
    assert after[0].id == before[3].id
    assert after[2].id == before[1].id
    assert after[1].id != before[0].id


def test_long_sections_are_cut(tmp_path: Path) -> None:
    sentences = [f"第{n}条，其脉浮而数者，当汗之。" for n in range(400)]
    found = documents(read(tmp_path, HEAD + "<篇名>脉法\n内容：" + "".join(sentences)))
    assert len(found) > 4
    assert [item.id.rsplit("#")[-1] for item in found] == [str(n + 1) for n in range(len(found))]
    assert all(item.text.startswith("《百草小识》脉法\n") and len(item.text) <= MAX_CHARACTERS for item in found)
    assert "".join(item.text.split("\n", 1)[1] for item in found) == "".join(sentences)


def test_a_file_without_tags(tmp_path: Path) -> None:
    found = documents(read(tmp_path, "第一段。\n\n第二段，有两句。\n", name="077-无标题 书.txt"))
    assert [(item.title, item.text) for item in found] == [
        ("《无标题 书》", "《无标题 书》\n第一段。\n第二段，有两句。")
    ]


def test_text_before_the_first_section_and_below_a_volume_is_kept(tmp_path: Path) -> None:
    found = documents(read(tmp_path, HEAD + "序言在此。\n<目录>卷上\n卷首语。\n<篇名>甲\n内容：乙。"))
    assert [item.text for item in found] == [
        "《百草小识》\n序言在此。",
        "《百草小识》卷上\n卷首语。",
        "《百草小识》甲\n乙。",
    ]


def test_a_body_with_a_damaged_label(tmp_path: Path) -> None:
    (found,) = documents(read(tmp_path, HEAD + "<篇名>甲\n内?：内容：乙。"))
    assert found.text == "《百草小识》甲\n内容：乙。"


@pytest.mark.parametrize("tag", ["<篇>二", "篇名>二", "<\x80篇名>二", "<", None])
def test_a_broken_tag_costs_its_own_section(tmp_path: Path, tag: str | None) -> None:
    whole = "<目录>卷\n<篇名>一\n内容：甲。\n\n{}属性：乙。\n丙。\n<篇名>三\n内容：丁。\n"
    expected = read(tmp_path, whole.format("<篇名>二\n").encode())
    first, broken, last = read(tmp_path, whole.format("" if tag is None else f"{tag}\n").encode())
    assert [first, last] == [expected[0], expected[2]]
    assert isinstance(broken, Reject)
    assert (broken.position, broken.reason) == ("section 2", "broken tag")
    assert broken.excerpt == f"{tag or ''} 乙。\n丙。"


@pytest.mark.parametrize("tag", ["<目>", "<\x80目录>", "目录>", "<目录"])
def test_a_broken_tag_of_a_chapter_costs_the_path_only(tmp_path: Path, tag: str) -> None:
    whole = "<目录>卷一\n<篇名>一\n内容：甲。\n\n{}卷二\n\n<篇名>二\n内容：乙。\n<目录>卷三\n<篇名>三\n内容：丁。\n"
    expected = documents(read(tmp_path, whole.format("<目录>").encode()))
    found = documents(read(tmp_path, whole.format(tag).encode()))
    assert [found[0], found[2]] == [expected[0], expected[2]]
    assert (found[1].title, found[1].text) == ("《百草小识》二", expected[1].text)


def test_modern_books_are_not_called_free(tmp_path: Path) -> None:
    section = "<篇名>甲\n内容：乙。"
    assert documents(read(tmp_path, HEAD.replace("1700", "1962") + section))[0].licence == ""
    assert documents(read(tmp_path, HEAD.replace("1700", "1938") + section))[0].licence == LICENCE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\0" * 5000, "no text in file"),
        (b" \r\n\t\n", "no text in file"),
        (HEAD.encode("gb18030"), "no text in file"),
    ],
)
def test_files_without_text(tmp_path: Path, data: bytes, reason: str) -> None:
    assert rejects(read(tmp_path, data)) == [("section 1", reason)]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="not text in UTF-8 or GB18030"):
        read(tmp_path, random.Random(1).randbytes(5000))
    with pytest.raises(UnreadableFileError, match="UTF-16"):
        read(tmp_path, HEAD, "utf-16")
    with pytest.raises(UnreadableFileError, match="no such file"):
        list(parse(tmp_path / "none.txt"))


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(UnreadableFileError, match="larger than"):
        list(parse(path))


def as_rows(found: list[Parsed]) -> list[bytes]:
    return [
        f"reject: {item.reason}".encode() if isinstance(item, Reject) else orjson.dumps(record_to_row(item))
        for item in found
        if isinstance(item, Reject | Document)
    ]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["flip", "delete", "insert", "cut", "duplicate"]),
    where=st.floats(0, 1),
    length=st.integers(1, 30),
    value=st.integers(0, 255),
)
@example(kind="insert", where=0.5, length=1, value=0x81)
def test_one_mutation_leaves_the_other_sections_as_they_were(
    tmp_path: Path, mutate: Callable, encoding: str, kind: str, where: float, length: int, value: int
) -> None:
    head = HEAD.encode(encoding)
    sections = [section.encode(encoding) for section in SECTIONS]
    expected = as_rows(read(tmp_path, head + b"".join(sections)))
    body, start, stop = mutate(b"".join(sections), kind, where, length, value)
    found = as_rows(read(tmp_path, head + body))
    offsets = [sum(map(len, sections[:n])) for n in range(len(sections) + 1)]
    # A section whose tags and label are damaged runs into the one before it.
    tags = len("\n<目录>\n\n<篇名>\n".encode(encoding)) + 20
    before = sum(offsets[n + 1] + tags <= start for n in range(len(sections)))
    after = sum(offsets[n] > stop for n in range(len(sections)))
    assert found[:before] == expected[:before]
    assert after == 0 or found[-after:] == expected[-after:]


def test_every_section_of_the_real_books_is_accounted_for(samples: Path) -> None:
    total: Counter[str] = Counter()
    for path in sorted((samples / "tcm_books").iterdir()):
        found = list(SOURCE.parse(path))
        raw = path.read_bytes().decode("gb18030", "replace")
        in_file = raw.count("<篇名>") - 1  # the first is the book's own title
        beginnings = sum(re.search(r"#(?!1$)", item.id) is None for item in documents(found))
        assert beginnings + len(rejects(found)) == in_file, path.name
        assert {reason for _, reason in rejects(found)} <= {"empty section"}
        for item in documents(found):
            assert len(item.text) <= MAX_CHARACTERS
            assert not re.search(r"\\|\.bmp|\ufffd|[\ue000-\uf8ff]|<篇名>| \n|[HK]T", item.text), item.title
        total.update(sections=in_file, documents=len(documents(found)), empty=len(rejects(found)))
    assert total == {"sections": 7287, "documents": 8620, "empty": 28}
