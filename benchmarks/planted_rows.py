"""Rows with planted near duplicates, and the truth about them; :mod:`near_duplicates` says which."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

KINDS = ("exact", "white space", "wrapped", "punctuation")
STRENGTHS = (0.01, 0.02, 0.05, 0.08, 0.10)
POSITIVE = (*KINDS, *(f"edited {share:.0%}" for share in STRENGTHS))


class Texts:
    """Tokens of two made-up languages."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        letters = "aaabcdeeeefghiiijklmnnnoooprrrsssttttuuvwxyz"
        self.words = ["".join(self.chance.choices(letters, k=self.chance.randint(2, 11))) for _ in range(20_000)]
        han = [chr(code) for code in self.chance.sample(range(0x4E00, 0x9FA0), 4_000)]
        self.han = ["".join(self.chance.choices(han, k=self.chance.choice((1, 2, 2, 2, 3)))) for _ in range(20_000)]
        weights = 1 / np.arange(5, 20_005)
        self.sums = np.cumsum(weights / weights.sum())

    def tokens(self, language: str, count: int) -> list[str]:
        """So many words; of Chinese ones, the characters."""
        vocabulary = self.words if language == "en" else self.han
        chosen = [vocabulary[place] for place in np.searchsorted(self.sums, self.numbers.random(count)).tolist()]
        return chosen if language == "en" else list("".join(chosen))

    def text(self, language: str) -> list[str]:
        """The tokens of about 1 KB of text."""
        return self.tokens(
            language, self.chance.randint(120, 180) if language == "en" else self.chance.randint(170, 230)
        )

    def edited(self, tokens: list[str], share: float, language: str) -> list[str]:
        """The tokens with a share of them replaced, followed by another one, or left out."""
        places = set(self.chance.sample(range(len(tokens)), max(1, round(share * len(tokens)))))
        others = iter(self.tokens(language, len(places) + 1))
        edited = []
        for place, token in enumerate(tokens):
            act = self.chance.random() if place in places else 1.0
            if act < 0.6:
                edited.append(next(others))
            elif act < 0.8:
                edited += [token, next(others)]
            elif act == 1.0:
                edited.append(token)
        return edited

    def write(self, tokens: list[str], language: str, kind: str) -> str:
        """The tokens in sentences; the punctuation depends on the tokens, so that a copy has the same."""
        space, comma, stop = (" ", ",", ".") if language == "en" else ("", "，", "。")
        if kind == "punctuation":
            comma, stop = (";", "!") if language == "en" else ("、", "；")
        every = 11 if language == "en" else 17
        parts = [
            token + (stop if place % (3 * every) == every else comma if place % every == every else "")
            if place % every
            else token + (stop if place % (3 * every) == 0 else comma)
            for place, token in enumerate(tokens, start=1)
        ]
        text = space.join(parts)
        if kind == "white space":
            return "  " + (text.replace(" ", "  ") if language == "en" else " ".join(text)) + "\n"
        if kind == "wrapped":
            return (
                "\n".join(text[start : start + 60] for start in range(0, len(text), 60))
                if language == "zh"
                else (text.replace(" ", "\n", len(parts) // 8))
            )
        return text


@dataclass
class Truth:
    """By id: language, kind, and the id of the row that it was made of."""

    rows: dict[str, tuple[str, str, str]]

    def judge(self, pairs: dict[str, str], removed: set[str]) -> dict[str, Any]:
        """Recall by language and kind, and precision, of the rows that a tool took for duplicates.

        :param pairs: id to a name of its cluster; empty if the tool does not tell.
        """
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        right = 0
        group = {id_: origin if kind in POSITIVE else id_ for id_, (_, kind, origin) in self.rows.items()}
        members = Counter(group.values())
        for id_, (language, kind, origin) in self.rows.items():
            if kind in POSITIVE:
                counts = found[language, kind]
                counts[1] += 1
                counts[0] += pairs[id_] == pairs[origin] if pairs else id_ in removed or origin in removed
        # Of each true group, all but one may go.
        gone = Counter(group[id_] for id_ in removed)
        right = sum(min(count, members[name] - 1) for name, count in gone.items())
        table = {
            f"{language} {kind}": round(one / every, 4) for (language, kind), (one, every) in sorted(found.items())
        }
        recall = {}
        for language in ("en", "zh"):
            near = [counts for (lang, kind), counts in found.items() if lang == language and kind.startswith("edited")]
            recall[language] = round(sum(one for one, _ in near) / max(1, sum(every for _, every in near)), 4)
        wrong = {
            language: Counter(
                self.rows[id_][1] for id_ in removed if self.rows[id_][0] == language and members[group[id_]] == 1
            )
            for language in ("en", "zh")
        }
        return {
            "recall of near": recall,
            "precision": round(right / max(1, len(removed)), 4),
            "removed": len(removed),
            "by kind": table,
            "wrongly removed": {language: dict(counts) for language, counts in wrong.items()},
        }


def generate(path: Path, rows: int, seed: int, prefix: str, *, text_field: bool = False) -> Truth:
    """Write rows as ``convert`` does, and return what was planted.

    :param text_field: the text stands there once more, as ``text``, which is what the peers read.
    """
    texts = Texts(seed)
    truth: dict[str, tuple[str, str, str]] = {}
    originals: dict[str, list[tuple[str, list[str]]]] = {"en": [], "zh": []}
    with path.open("wb") as file:
        for number in range(rows):
            id_ = f"{prefix}:{number:08}"
            language = "en" if number % 2 else "zh"
            kind, origin, tokens = _plant(texts, originals[language], language)
            truth[id_] = (language, kind, origin or id_)
            text = texts.write(tokens, language, kind)
            row = {
                "id": id_,
                "messages": [{"role": "assistant", "content": text}],
                "source": prefix,
                "language": language,
                "title": "",
                "url": "",
                "licence": "",
                "version": 1,
                "retracted": False,
            }
            if text_field:
                row["text"] = text
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            if kind == "original" and (len(originals[language]) < 50_000 or texts.chance.random() < 0.05):
                originals[language].append((id_, tokens))
                if len(originals[language]) > 60_000:
                    del originals[language][:10_000]
    return Truth(truth)


def _plant(texts: Texts, originals: list[tuple[str, list[str]]], language: str) -> tuple[str, str, list[str]]:
    dice = texts.chance.random()
    if dice >= 0.25 or not originals:
        return "original", "", texts.text(language)
    origin, tokens = texts.chance.choice(originals)
    if dice < 0.10:
        return texts.chance.choice(KINDS), origin, tokens
    if dice < 0.20:
        share = texts.chance.choice(STRENGTHS)
        return f"edited {share:.0%}", origin, texts.edited(tokens, share, language)
    if texts.chance.random() < 0.4:
        share = texts.chance.choice((0.2, 0.3))
        return f"negative, edited {share:.0%}", "", texts.edited(tokens, share, language)
    share = texts.chance.choice((0.3, 0.5, 0.7))
    head = tokens[: round(share * len(tokens))]
    other = texts.text(language)
    rest = (other + texts.text(language))[: len(tokens) - len(head)]
    return f"negative, head {share:.0%}", "", head + rest
