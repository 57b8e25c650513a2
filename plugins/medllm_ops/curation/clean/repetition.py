"""Where a text repeats itself so much that it is no text: Gopher's table A1, and ChineseWebText's rule for Chinese.

Shares are of words, where Gopher counts the characters in them. A quick look, which can be proven to let nothing
through that the exact count would stop, spares most texts the exact count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from medllm_ops.curation.clean.settings import RepetitionSettings

_FEWEST_LINES = 4
_FEWEST_WORDS = 10
_RUN = 13

Found = tuple[str, float]


def repeated_lines(lines: Sequence[str], settings: RepetitionSettings) -> Found | None:
    """The rule that stops the text and its share, if too many lines stood there before."""
    if len(lines) < _FEWEST_LINES:
        return None
    first = set(lines)
    share = 1 - len(first) / len(lines)
    if share > settings.repeated_lines:
        return "repeated_lines", share
    if len(first) < len(lines):
        share = 1 - sum(map(len, first)) / sum(map(len, lines))
        if share > settings.repeated_line_characters:
            return "repeated_line_characters", share
    return None


def repeated_words(words: Sequence[bytes], counts: Mapping[bytes, int], settings: RepetitionSettings) -> Found | None:
    """The rule that stops the text and its share, if it says the same words again and again.

    :param counts: how often each word stands there.
    """
    total = len(words)
    if total < _FEWEST_WORDS:
        return None
    # The most frequent run of three or four stands there at most once more often than runs of three are repeated, and
    # the most frequent pair at most as often as a word.
    repeated = total - 2 - len(set(zip(words, words[1:], words[2:], strict=False)))
    often = max(counts.values())
    for n, limit, at_most in (
        (2, settings.top_2_gram, often),
        (3, settings.top_3_gram, repeated + 1),
        (4, settings.top_4_gram, repeated + 1),
    ):
        if n * at_most > limit * total:
            # Overlapping runs (a a a) would count words twice: all of them is the most.
            share = min(1.0, n * max(Counter(_runs(words, n)).values()) / total)
            if share > limit:
                return f"top_{n}_gram", share
    # A stretch of n words that stood there before holds n - 2 runs of three that did.
    if 5 * repeated <= 3 * min(settings.repeated_5_grams, settings.repeated_10_grams) * total:
        return None
    step = (settings.repeated_5_grams - settings.repeated_10_grams) / 5
    for n in range(5, 11):
        share = _covered(words, n) / total
        if share > round(settings.repeated_5_grams - step * (n - 5), 9):
            return f"repeated_{n}_grams", share
    return None


def _runs(words: Sequence[bytes], n: int) -> list[tuple[bytes, ...]]:
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def _covered(words: Sequence[bytes], n: int) -> int:
    """The words in runs of n that stood there before; a word in two such runs counts once."""
    seen: set[tuple[bytes, ...]] = set()
    covered = end = 0
    for start, run in enumerate(_runs(words, n)):
        if run in seen:
            covered += start + n - max(start, end)
            end = start + n
        else:
            seen.add(run)
    return covered


def repeated_characters(text: str, settings: RepetitionSettings) -> Found | None:
    """The rule that stops a Chinese text and its share, if most runs of 13 characters are there more than once."""
    text = "".join(text.split())
    total = len(text) - _RUN + 1
    if total < 2:
        return None
    if 2 * _most_seen_before(text) <= settings.repeated_13_characters * total:
        return None
    different = len({text[start : start + _RUN] for start in range(total)})
    # A run that is there more than once has one first occurrence and at least one later one.
    if 2 * (total - different) <= settings.repeated_13_characters * total:
        return None
    runs = Counter(text[start : start + _RUN] for start in range(total))
    share = sum(times for times in runs.values() if times > 1) / total
    return ("repeated_13_characters", share) if share > settings.repeated_13_characters else None


def _most_seen_before(text: str) -> int:
    """At least as many as there are runs of 13 characters that stood before: so many pairs of characters did.

    Pairs are read as numbers out of UTF-16, which is twice as fast as cutting runs out of the text.
    """
    units = text.encode("utf-16-le", "surrogatepass")
    pairs = len(units) // 2 - 1
    seen = set(memoryview(units[: len(units) // 4 * 4]).cast("I"))
    odd = units[2:]
    seen.update(memoryview(odd[: len(odd) // 4 * 4]).cast("I"))
    return pairs - len(seen)
