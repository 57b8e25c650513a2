from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.sources.xml_records import cut

NAMES, SETS = ("Item", "Other"), ("ItemSet",)
# What a file of records is made of, whole and broken.
FRAGMENTS = (
    "<Item>",
    "<Item a='1'>",
    "</Item>",
    "</Item >",
    "<Other>",
    "</Other>",
    "<ItemSet>",
    "</ItemSet>",
    "<!-- <Item> -->",
    "<!--",
    "-->",
    "<![CDATA[</Item>]]>",
    "<![CDATA[",
    "]]>",
    "<?pi </Item>?>",
    "<?",
    "text",
    "<",
    ">",
    "\n",
)


def pieces(text: str, size: int = 1 << 20, limit: int = 10_000) -> list[tuple[str, str, str]]:
    data = text.encode()
    blocks = (data[start : start + size] for start in range(0, len(data), size))
    return [(piece.name, piece.data.decode(), piece.end) for piece in cut(blocks, NAMES, SETS, limit)]


def test_records_and_what_is_between_them() -> None:
    assert pieces("<ItemSet>\n<Item>1</Item><Other a='b'/></Other >\n</ItemSet>") == [
        ("", "<ItemSet>\n", "broken"),
        ("Item", "<Item>1</Item>", "closed"),
        ("Other", "<Other a='b'/></Other >", "closed"),
        ("", "\n</ItemSet>", "file"),
    ]
    assert pieces("") == [("", "", "file")]


def test_a_lost_end_tag_ends_at_the_next_record_or_the_end_of_the_set() -> None:
    assert pieces("<Item>1<Item>2</Other></ItemSet>") == [
        ("Item", "<Item>1", "broken"),
        ("Item", "<Item>2</Other>", "broken"),
        ("", "</ItemSet>", "file"),
    ]


def test_a_lost_start_tag_makes_a_piece_without_a_name() -> None:
    assert pieces("<ItemX>1</Item><Item>2</Item>")[:2] == [
        ("", "<ItemX>1</Item>", "closed"),
        ("Item", "<Item>2</Item>", "closed"),
    ]


def test_a_start_tag_that_became_an_end_tag_makes_one_piece() -> None:
    assert pieces("<Item>1</Item></Item>2</Item>")[1:] == [("", "</Item>2</Item>", "closed"), ("", "", "file")]


def test_what_is_too_large_is_let_go_and_the_next_record_is_found() -> None:
    text = "<Item>" + "x" * 30_000 + "</Item><Item>2</Item>" + "y" * 30_000
    for size in (100, 64, 1 << 20):
        first, second, rest = pieces(text, size)
        assert (first[0], first[2], len(first[1])) == ("Item", "too large", 4096)
        assert second == ("Item", "<Item>2</Item>", "closed")
        assert (rest[0], rest[2]) == ("", "file")


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30), st.integers(1, 40))
def test_no_byte_is_lost_and_the_size_of_the_blocks_does_not_matter(fragments: list[str], size: int) -> None:
    text = "".join(fragments)
    whole = pieces(text)
    assert "".join(data for _, data, _ in whole) == text
    assert pieces(text, size) == whole
    assert [end for _, _, end in whole].count("file") == 1
