"""Pages of the 中医世家 site, in both layouts; the texts are ours."""

from pathlib import Path

import pytest

from medllm_ops.errors import UnreadableFileError
from medllm_ops.fetch.tcm_layout import lost_page
from medllm_ops.records import Document, Reject
from medllm_ops.sources import tcm_pages
from medllm_ops.sources.base import Parsed
from medllm_ops.sources.tcm_books import parse
from medllm_ops.sources.tcm_records import LICENCE, MAX_CHARACTERS

HEAD = '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>百草小识_中医世家</title>{}</head><body>'
SIDE = '<ul id="nav"><li><a href="/">首页</a></li></ul><div><p>热门作者：某某</p></div>'
INFO = "<h1>《百草小识》</h1><h2>书名：百草小识　作者：无名氏　朝代：清　年份：公元1700年</h2>"
SECTIONS = """<div id="content">
<div class="section" id="1"><h2 class="title">卷上</h2></div>
<div class="section" id="2"><h3 class="title">草部</h3><p>草之属，凡二种。</p></div>
<div class="section" id="3"><h4 class="title">甘草</h4>
<p>　　味甘，<!-- 注 -->性平，<b>入脾经</b>，能和诸药。
<img src="a.gif" alt="图">\ue5e5</p><p>治咳嗽。<br>又治痈疽。</p></div>
<div class="section" id="4"><h4 class="title">人参</h4><script>var a = "作者：坏";</script><p> </p></div>
<div class="section" id="5"><h2 class="title">卷下</h2>
<table><tr><td>茯苓</td><td>三钱</td></tr><tr><td>白术</td><td>二钱</td></tr></table></div>
</div>"""
WHOLE = HEAD.format("") + SIDE + INFO + SECTIONS + "<div id='footer'><p>朝代：错</p></div></body></html>"
CHAPTER = (
    "<html><head><meta http-equiv='Content-Type' content='text/html; charset=gb2312'><title>{title}</title></head>"
    "<body><div id='content'><h1>甘草</h1><p>味甘，性平。</p><p>上一篇：<a href='1.html'>人参</a></p>"
    "<p><a href='index.html'>返回目录</a></p></div></body></html>"
)


def read(tmp_path: Path, page: str | bytes, encoding: str = "utf-8", name: str = "quanben.html") -> list[Parsed]:
    path = tmp_path / name
    path.write_bytes(page.encode(encoding) if isinstance(page, str) else page)
    return list(parse(path))


def documents(found: list[Parsed]) -> list[Document]:
    return [item for item in found if isinstance(item, Document)]


def rejects(found: list[Parsed]) -> list[tuple[str, str, str]]:
    return [(item.position, item.reason, item.excerpt) for item in found if isinstance(item, Reject)]


def test_the_sections_of_a_whole_book_keep_what_stands_above_them(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert [(item.title, item.text) for item in documents(found)] == [
        ("《百草小识》（清，无名氏，公元1700年）卷上·草部", "《百草小识》草部\n草之属，凡二种。"),
        (
            "《百草小识》（清，无名氏，公元1700年）卷上·草部·甘草",
            "《百草小识》甘草\n味甘，性平，入脾经，能和诸药。\n治咳嗽。\n又治痈疽。",
        ),
        ("《百草小识》（清，无名氏，公元1700年）卷下", "《百草小识》卷下\n茯苓 三钱\n白术 二钱"),
    ]
    assert rejects(found) == [("section 3", "empty section", "卷上·草部·人参")]
    assert {(item.source, item.language, item.licence) for item in documents(found)} == {("tcm_books", "zh", LICENCE)}


def test_a_section_is_the_same_record_as_in_a_dump(tmp_path: Path) -> None:
    dump = (
        "<篇名>百草小识\n书名：百草小识\n作者：无名氏\n朝代：清\n年份：公元1700年\n\n"
        "<目录>卷上\\草部\n\n<篇名>甘草\n\n内容：味甘，性平，入脾经，能和诸药。\n治咳嗽。\n又治痈疽。\n"
    )
    [from_dump] = read(tmp_path, dump, "gb18030", "001-百草小识.txt")
    assert documents(read(tmp_path, WHOLE))[1] == from_dump


@pytest.mark.parametrize(
    "title",
    [
        "《百草小识》_甘草_中医世家",
        "甘草_百草小识_中医世家",
        "百草小识_甘草_中医世家",
        "甘草 - 《百草小识》 - 中医世家",
        "甘草|百草小识|中医世家",
    ],
)
def test_a_chapter_of_the_older_layout(tmp_path: Path, title: str) -> None:
    [found] = read(tmp_path, CHAPTER.format(title=title), "gb18030", "12.html")
    assert isinstance(found, Document)
    assert (found.title, found.text) == ("《百草小识》甘草", "《百草小识》甘草\n味甘，性平。")
    assert found.licence == ""  # a site has modern textbooks too


def test_the_same_page_in_any_encoding_gives_the_same_records(tmp_path: Path) -> None:
    expected = read(tmp_path, WHOLE)
    bare = WHOLE.replace('<meta charset="utf-8">', "")
    for text, encoding in (
        (WHOLE, "utf-8-sig"),
        (bare, "utf-8"),
        (bare, "gb18030"),
        (WHOLE, "gb18030"),
        (WHOLE.replace("utf-8", "gbk"), "gb18030"),
        (WHOLE.replace("utf-8", "gb2312"), "utf-8"),
        (WHOLE.replace("utf-8", "utf-16"), "utf-8"),
        (WHOLE.replace("utf-8", "no-such"), "utf-8"),
        (WHOLE.replace("<!DOCTYPE html>", '<?xml version="1.0" encoding="gbk"?>'), "utf-8"),
    ):
        assert read(tmp_path, text, encoding) == expected, (text[:120], encoding)


@pytest.mark.parametrize(("declared", "encoding"), [("utf-8", "utf-8"), ("utf-8", "gb18030"), ("gb2312", "gb18030")])
def test_a_bad_byte_costs_itself_only(tmp_path: Path, declared: str, encoding: str) -> None:
    text = WHOLE.replace("utf-8", declared).replace("治咳嗽", "治龢咳嗽")  # a character that GB2312 does not have
    page, mark = text.encode(encoding), "治龢咳嗽".encode(encoding)
    assert read(tmp_path, page.replace(mark, b"\xff" + mark)) == read(tmp_path, text, encoding)


def test_long_sections_are_cut(tmp_path: Path) -> None:
    paragraphs = [f"第{n}条，其脉浮而数者，当汗之。" for n in range(400)]
    section = "<h2>脉法</h2>" + "".join(f"<p>{text}</p>" for text in paragraphs)
    found = documents(read(tmp_path, f"<html><body><div id='content'>{section}</div></body></html>"))
    assert len(found) > 4
    assert [item.id.rsplit("#")[-1] for item in found] == [str(n + 1) for n in range(len(found))]
    assert all(len(item.text) <= MAX_CHARACTERS for item in found)
    assert "\n".join(item.text.split("\n", 1)[1] for item in found).split("\n") == paragraphs


def test_fields_at_the_head_of_the_content_are_no_text(tmp_path: Path) -> None:
    page = HEAD.format("") + (
        "<div id='content'><h1>百草小识</h1><p>书名：百草小识</p><p>作者：无名氏</p><p>朝代：民国</p>"
        "<p>序言在此。</p><p>作者：此为正文。</p></div>"
    )
    [found] = documents(read(tmp_path, page))
    assert found.title == "《百草小识》（民国，无名氏）"
    assert found.text == "《百草小识》\n序言在此。\n作者：此为正文。"


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("朝代：清", LICENCE),
        ("朝代：东汉", LICENCE),
        ("年份：公元1640年", LICENCE),
        ("朝代：不明", ""),
        ("朝代：现代", ""),
        ("朝代：清　年份：1985", ""),
        ("", ""),
    ],
)
def test_a_page_is_free_only_if_it_says_that_it_is_old(tmp_path: Path, stated: str, licence: str) -> None:
    page = f"<html><body><h1>《书》</h1><h2>{stated}</h2><div id='content'><h3>甲</h3><p>乙。</p></div></body></html>"
    [found] = documents(read(tmp_path, page))
    assert found.licence == licence


def test_the_address_that_the_page_gives_itself_is_its_records_address(tmp_path: Path) -> None:
    address = "https://www.zysj.com.cn/lilunshuji/baicaoxiaoshi/quanben.html"
    found = documents(read(tmp_path, WHOLE.replace("</head>", f'<link rel="canonical" href="{address}"></head>')))
    assert {item.url for item in found} == {address}
    assert {item.url for item in documents(read(tmp_path, WHOLE))} == {"https://www.zysj.com.cn/"}


@pytest.mark.parametrize(
    ("page", "excerpt"),
    [
        ("<html><head><title>开奖</title></head><body><h1>彩票</h1><p>点此</p></body></html>", "彩票"),
        ("<html><body><div id='content'><script>document.write(1)</script></div></body></html>", ""),
        ("<div id='content'> </div>", ""),
        ("", ""),
        ("\0\0\0", ""),
    ],
)
def test_a_page_without_text_is_one_reject(tmp_path: Path, page: str, excerpt: str) -> None:
    [reject] = rejects(read(tmp_path, page))
    assert reject[:2] == ("page", "no text in page")
    assert excerpt in reject[2]


def test_a_lost_page_is_one_reject_with_its_reason(tmp_path: Path) -> None:
    [reject] = read(tmp_path, lost_page("https://site.example/a?b&c", 'status 503 "<busy>"'))
    assert isinstance(reject, Reject)
    assert (reject.position, reject.reason, reject.detail) == ("page", "page lost", 'status 503 "<busy>"')


def test_too_large_a_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcm_pages, "MAX_PAGE_BYTES", len(WHOLE.encode()) - 1)
    with pytest.raises(UnreadableFileError, match="larger than"):
        read(tmp_path, WHOLE)
