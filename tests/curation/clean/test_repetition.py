from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.clean.repetition import repeated_characters, repeated_lines, repeated_words
from medllm_ops.curation.clean.settings import RepetitionSettings

GOPHER = RepetitionSettings(
    top_2_gram=0.2,
    top_3_gram=0.18,
    top_4_gram=0.16,
    repeated_5_grams=0.15,
    repeated_10_grams=0.1,
    repeated_13_characters=0.5,
)
OFF = RepetitionSettings(
    **dict.fromkeys(("repeated_lines", "repeated_line_characters", "top_2_gram", "top_3_gram", "top_4_gram"), 1.0),
    repeated_5_grams=1,
    repeated_10_grams=1,
    repeated_13_characters=1,
)


def words_found(words: list[bytes], settings: RepetitionSettings = GOPHER) -> str | None:
    found = repeated_words(words, Counter(words), settings)
    return found[0] if found else None


def test_lines_that_stood_before() -> None:
    assert repeated_lines(["a", "b", "c", "a"], GOPHER) == ("repeated_line_characters", 0.25)
    assert repeated_lines(["a", "b", "a", "a"], GOPHER) == ("repeated_lines", 0.5)
    assert repeated_lines(["* 5 mg", "a much longer line", "another long line", "* 5 mg"], GOPHER) is None
    assert repeated_lines(["a", "a", "a"], GOPHER) is None


def test_the_shares_of_gophers_table() -> None:
    text = [b"w%d" % number for number in range(100)]
    assert words_found(text) is None
    assert words_found([b"a", b"b"] * 11 + text[:78]) == "top_2_gram"
    assert words_found([b"a", b"b", b"c", *text[:1]] * 2 + [b"a", b"b", b"c"] * 6 + text[:74]) == "top_3_gram"
    assert words_found(text[:84] + text[:16]) == "repeated_5_grams"
    assert words_found(text[:86] + text[:14]) == "repeated_7_grams"
    assert words_found(text[:90] + text[:10]) is None
    assert words_found([b"a"] * 50) == "top_2_gram"
    assert words_found([b"a"] * 50, OFF) is None


def test_the_quick_look_stops_at_its_very_bounds() -> None:
    # Nothing is repeated but what is counted: parted by words that stand there once.
    parted = [word for number in range(7) for word in (b"a", b"b", b"c", b"x%d" % number)]
    assert words_found(parted + [b"w%d" % number for number in range(72)]) == "top_3_gram"
    four = [word for number in range(5) for word in (b"a", b"b", b"c", b"d", b"x%d" % number)]
    assert words_found(four + [b"w%d" % number for number in range(75)]) == "top_4_gram"
    text = [b"w%d" % number for number in range(76)]
    again = [word for number in range(4) for word in (*text[number * 7 : number * 7 + 5], b"x%d" % number)]
    only = RepetitionSettings(top_2_gram=1, top_3_gram=1, top_4_gram=1, repeated_5_grams=0.17, repeated_10_grams=0.17)
    assert words_found(text + again, only) == "repeated_5_grams"
    assert len(text + again) == 100


def test_runs_of_chinese_characters() -> None:
    unique = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 200))
    assert repeated_characters(unique, GOPHER) is None
    loop = unique[:40] * 5
    found = repeated_characters(loop, GOPHER)
    assert found == ("repeated_13_characters", 1.0)
    assert repeated_characters(loop, OFF) is None
    # 52 of 200 characters stand there twice: 40 runs of 188, both times counted.
    some = unique[:148] + unique[:52]
    share = 80 / 188
    at = RepetitionSettings(repeated_13_characters=0.42)
    assert repeated_characters(some, at) == ("repeated_13_characters", share)
    assert repeated_characters(some, GOPHER) is None


def slow(words: list[bytes], settings: RepetitionSettings) -> bool:
    """The definition, without any quick look."""
    total = len(words)
    if total < 10:
        return False
    runs = {n: [tuple(words[i : i + n]) for i in range(total - n + 1)] for n in range(2, 11)}
    tops = {2: settings.top_2_gram, 3: settings.top_3_gram, 4: settings.top_4_gram}
    if any(min(1, n * Counter(runs[n]).most_common(1)[0][1] / total) > limit for n, limit in tops.items()):
        return True
    for n in range(5, 11):
        covered = {i + j for i, run in enumerate(runs[n]) if run in runs[n][:i] for j in range(n)}
        limit = settings.repeated_5_grams - (settings.repeated_5_grams - settings.repeated_10_grams) / 5 * (n - 5)
        if len(covered) / total > round(limit, 9):
            return True
    return False


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"]), max_size=40), st.sampled_from([0, 1, 3]))
def test_the_quick_look_lets_nothing_through_that_the_definition_stops(words: list[bytes], times: int) -> None:
    words = words + [b"w%d" % number for number in range(60)] + words * times
    for settings in (GOPHER, RepetitionSettings(), RepetitionSettings(top_2_gram=1, top_3_gram=1, top_4_gram=1)):
        assert (words_found(words, settings) is not None) == slow(words, settings)


@given(st.text(st.sampled_from("甲乙丙丁戊\U00020000a"), max_size=60), st.integers(0, 3))
def test_the_quick_look_on_characters_lets_nothing_through(text: str, times: int) -> None:
    text = text + "".join(chr(code) for code in range(0x5000, 0x5000 + 30)) + text * times
    runs = Counter(text[start : start + 13] for start in range(len(text) - 12))
    share = sum(count for count in runs.values() if count > 1) / max(1, runs.total())
    for limit in (0.1, 0.5, 0.8):
        found = repeated_characters(text, RepetitionSettings(repeated_13_characters=limit))
        assert (found is not None) == (share > limit)
