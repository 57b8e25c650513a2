"""What cleaning costs: rows of 1 KB a CPU second, without scrubbing, against a bare loop that reads and writes JSON.

``python benchmarks/clean.py [--rows 50000] [--rounds 3]`` generates rows, English and Chinese in turn, one in five with
something to clean and one in fifty to drop, and prints the best of the rounds for each kind. One process.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.curation.clean import CleanSettings, clean
from medllm_ops.curation.outcome import Outcome
from medllm_ops.files import to_json_line

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 2500)]
SYLLABLES = re.findall("..[aeiou]?", "anarbocderenfiglihepicisalomabamineposproresitinatulvazo")
FREQUENT = re.findall(r"\w+", "the of and in to with was for that patients were by on is from as at be or which")


def english_words(chance: random.Random) -> list[str]:
    """Words of two to four syllables; the frequent ones make two words of five, as they do in abstracts."""
    rare = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(6000)]
    return rare + FREQUENT * (len(rare) * 2 // 3 // len(FREQUENT))


def english(chance: random.Random, words: list[str], size: int) -> str:
    """A title and two paragraphs of sentences, so many bytes."""
    text = " ".join(chance.choices(words, k=8)).capitalize() + "\n"
    while len(text) < size:
        text += " ".join(chance.choices(words, k=chance.randint(12, 25))).capitalize()
        text += f" (p = 0.0{chance.randint(1, 9)}). " if chance.random() < 0.2 else ". "
        if size * 0.5 < len(text) < size * 0.6:
            text = text.rstrip() + "\n"
    return text.strip()


def chinese(chance: random.Random, size: int) -> str:
    """A heading and clauses of four to twelve characters, so many bytes."""
    text = "《书》" + "".join(chance.choices(CHARACTERS, k=6)) + "\n"
    while 3 * len(text) < size:
        text += "".join(chance.choices(CHARACTERS, k=chance.randint(4, 12))) + chance.choice("，，，；。")
    return text + "。"


DIRT: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace(" ", "\u00a0", 3),
    lambda text: f"\ufeff{text}\u200b",
    lambda text: text.replace("。", "。\u3000\u3000", 2).replace(". ", ".  ", 2),
    lambda text: f"<p>{text}</p><br/>10<sup>-3</sup> &lt; &micro;g",
    lambda text: f"{text}\nShare on Facebook\n上一篇：消渴",
    lambda text: f"{text} 每次１０ｍｇ，５㎎",
    lambda text: f"**{text[:20].strip()}**{text[20:]}\n## 结论 ##",
)


def rows(count: int, size: int) -> list[dict[str, Any]]:
    """Rows as ``records.jsonl`` has them, about so many bytes of text each."""
    chance = random.Random(0)
    words = english_words(chance)
    made = []
    for number in range(count):
        language = ("en", "zh")[number % 2]
        text = english(chance, words, size) if language == "en" else chinese(chance, size)
        if number % 5 == 0:
            text = DIRT[number // 5 % len(DIRT)](text)
        elif number % 100 in (1, 2):
            text = text[:40] * (size // 100)
        made.append(
            {
                "id": f"made:{number}",
                "messages": [{"role": "assistant", "content": text}],
                "source": "made",
                "language": language,
                "title": "",
                "url": "",
                "licence": "",
                "version": 1,
                "retracted": False,
            }
        )
    return made


def bare(line: bytes) -> Outcome:
    """The reference: read and write."""
    return Outcome(row=orjson.loads(line))


def cleaned(line: bytes) -> Outcome:
    """The step, with the defaults."""
    return clean(orjson.loads(line), SETTINGS)


SETTINGS = CleanSettings()


def run(step: Callable[[bytes], Outcome], source: Path, target: Path) -> tuple[float, Counter[str], Counter[str]]:
    """CPU seconds, the reasons of what was dropped, what was done."""
    dropped: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    start = time.process_time()
    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            outcome = step(line)
            marks.update(outcome.marks)
            if outcome.row is None:
                dropped[outcome.reason] += 1
            else:
                out.write(to_json_line(outcome.row))
    return time.process_time() - start, dropped, marks


def main() -> None:
    """Generate, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=50_000)
    arguments.add_argument("--bytes", type=int, default=1000, help="of text in a row")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    made = rows(options.rows, options.bytes)
    kinds = {"both": made, "en": made[::2], "zh": made[1::2]}
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "rows.jsonl", Path(name) / "out.jsonl"
        for kind, some in kinds.items():
            source.write_bytes(b"".join(map(to_json_line, some)))
            # In turn, so that a busy machine is as busy for both.
            rounds = [(run(bare, source, target)[0], *run(cleaned, source, target)) for _ in range(options.rounds)]
            reference = min(seconds for seconds, *_ in rounds)
            seconds, dropped, marks = min(
                ((took, gone, done) for _, took, gone, done in rounds), key=lambda row: row[0]
            )
            kept = len(some) - dropped.total()
            print(f"{kind}: {len(some):,} rows, {source.stat().st_size / len(some):,.0f} bytes a line, {kept:,} kept")
            print(f"  bare JSON loop {len(some) / reference:,.0f} rows per CPU s")
            print(
                f"  cleaning       {len(some) / seconds:,.0f} rows per CPU s, {seconds / reference:.1f} times the loop"
            )
            print(f"  dropped {dict(dropped)}; {dict(marks)}")


if __name__ == "__main__":
    main()
