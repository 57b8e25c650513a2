"""What scrubbing costs: rows of 1 KB a CPU second, against a bare JSON loop and against presidio's own recognisers.

``python benchmarks/scrub.py [--rows 20000] [--peer-rows 2000] [--rounds 3]`` generates rows, English and Chinese in
turn,
with doses, results and dates, and personal data in one of ten. In the same run they go through the bare loop, through
the step, and (so many of them) through a loop over presidio's pattern recognisers by themselves, without its
AnalyzerEngine and without a language model: e-mail, phone (China, United States, Britain), IP address, IBAN, payment
card and social security number. Printed are the best of the rounds, and what each found of what was planted.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from medllm_ops.curation.scrub import ScrubSettings, scrub
from medllm_ops.files import to_json_line

ENGLISH = (
    "We randomly assigned {n} patients to receive {d} mg or placebo for {w} weeks",
    "The primary outcome was overall survival at {w} months",
    "Median age was {a} years (range {a}-{b})",
    "The hazard ratio was 0.{a} (95% CI 0.{w}-1.{b}; P = .00{w})",
    "Adverse events of grade 3 or higher occurred in {a} of {n} participants",
    "Blood pressure was {n}/{b} mm Hg and heart rate {a} beats per minute",
    "Data were collected between January 2012 and December 2016 in {w} hospitals",
    "Serum creatinine levels were measured at baseline: {a} μmol/L",
    "Trial registration: ClinicalTrials.gov Identifier NCT0{n}{n}{w}",
    "Contact with the support team was offered to patients who reported side effects",
    "These findings suggest that the treatment is effective and well tolerated",
    "Further studies with longer follow-up are needed to confirm the results",
)
CHINESE = (
    "选取2015年1月至2018年12月收治的{n}例患者作为研究对象",
    "两组患者年龄、性别等一般资料比较，差异无统计学意义（P>0.05）",
    "给予阿司匹林{d}mg口服，每日一次，连续{w}周",
    "治疗前后血压分别为{n}/{b} mmHg和{n}/{a} mmHg",
    "患者主诉头晕、乏力{w}天，伴恶心，无呕吐",
    "查体：体温36.{w}℃，心率{a}次/分，双肺呼吸音清",
    "方用黄芪{a}g、当归{w}g、白芍{w}g，水煎服，日一剂",
    "总有效率为{a}.{w}%，明显高于对照组的{b}.{w}%",
    "建议您到正规医院心内科就诊，完善心电图及心脏彩超检查",
    "医生会根据您的病情制定个体化的治疗方案",
    "注意休息，清淡饮食，避免熬夜和过度劳累",
    "该病的发生与遗传、环境和生活方式等多种因素有关",
)
PERSONAL: tuple[tuple[str, str], ...] = (
    ("EMAIL", "Correspondence: author{n}@hospital.example.org"),
    ("PHONE", "联系电话：148{n}{n}{a}"),
    ("PHONE", "Call (617) 555-01{a} to make an appointment"),
    ("RECORD", "住院号：00{n}{a}"),
    ("ID", "身份证号 11019919800101{n}X"),
    ("NAME", "患者姓名：王建国，性别：男"),
    ("ADDRESS", "现住上海市徐汇区天平路{n}号"),
    ("IP", "Logged in from 203.0.113.{a}"),
    ("ACCOUNT", "IBAN DE89 3704 0044 0532 0130 00"),
    ("ID", "SSN 467-{a}-1{n}"),
)
PRESIDIO_KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IP_ADDRESS": "IP",
    "IBAN_CODE": "ACCOUNT",
    "CREDIT_CARD": "ACCOUNT",
    "US_SSN": "ID",
}
SETTINGS = ScrubSettings()


def filled(chance: random.Random, template: str) -> str:
    """A sentence with numbers in it."""
    values = {"n": (100, 999), "d": (5, 800), "w": (2, 9), "a": (10, 99), "b": (10, 99)}
    for name, (low, high) in values.items():
        while f"{{{name}}}" in template:
            template = template.replace(f"{{{name}}}", str(chance.randint(low, high)), 1)
    return template


def generate(count: int, size: int) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows as ``records.jsonl`` has them, about so many bytes of text each; how much was planted, by kind."""
    chance = random.Random(0)
    made, planted = [], Counter[str]()
    for number in range(count):
        sentences, end = ((ENGLISH, ". "), (CHINESE, "。"))[number % 2]
        text = ""
        while len(text.encode()) < size:
            text += filled(chance, chance.choice(sentences)) + end
        if number % 20 in (0, 1):
            kind, template = chance.choice(PERSONAL)
            planted[kind] += 1
            text += filled(chance, template) + end
        message = {"role": "assistant", "content": text}
        made.append({"id": f"made:{number}", "messages": [message], "source": "made", "title": ""})
    return made, planted


def bare(line: bytes) -> tuple[dict[str, Any], Counter[str]]:
    """The reference: read and write."""
    return orjson.loads(line), Counter()


def scrubbed(line: bytes) -> tuple[dict[str, Any], Counter[str]]:
    """The step, with the defaults."""
    outcome = scrub(orjson.loads(line), SETTINGS)
    return outcome.row or {}, outcome.marks


def presidio() -> Callable[[bytes], tuple[dict[str, Any], Counter[str]]]:
    """A loop over presidio's recognisers; its list of domains is the one in the package, nothing is fetched."""
    import tldextract
    from presidio_analyzer import predefined_recognizers as known

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    recognisers = [
        known.EmailRecognizer(),
        known.PhoneRecognizer(supported_regions=("CN", "US", "GB")),
        known.IpRecognizer(),
        known.IbanRecognizer(),
        known.CreditCardRecognizer(),
        known.UsSsnRecognizer(),
    ]

    def step(line: bytes) -> tuple[dict[str, Any], Counter[str]]:
        row, found = orjson.loads(line), Counter[str]()
        for message in row["messages"]:
            text = message["content"]
            results = [
                one for recogniser in recognisers for one in recogniser.analyze(text, recogniser.supported_entities)
            ]
            for result in sorted((one for one in results if one.score >= 0.4), key=lambda one: -one.start):
                kind = PRESIDIO_KINDS[result.entity_type]
                text = f"{text[: result.start]}⟨{kind}⟩{text[result.end :]}"
                found[kind] += 1
            message["content"] = text
        return row, found

    return step


def run(
    step: Callable[[bytes], tuple[dict[str, Any], Counter[str]]], source: Path, target: Path
) -> tuple[float, Counter[str]]:
    """CPU seconds, and what was found."""
    found: Counter[str] = Counter()
    start = time.process_time()
    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            row, marks = step(line)
            found.update(marks)
            out.write(to_json_line(row))
    return time.process_time() - start, found


def measure(rows: list[dict[str, Any]], steps: dict[str, Any], rounds: int) -> dict[str, tuple[float, Counter[str]]]:
    """The best of the rounds of each step, in turn, so that a busy machine is as busy for all."""
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "rows.jsonl", Path(name) / "out.jsonl"
        source.write_bytes(b"".join(map(to_json_line, rows)))
        taken = [{label: run(step, source, target) for label, step in steps.items()} for _ in range(rounds)]
    return {label: min((once[label] for once in taken), key=lambda pair: pair[0]) for label in steps}


def memory() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Generate, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=20_000)
    arguments.add_argument("--peer-rows", type=int, default=2_000)
    arguments.add_argument("--bytes", type=int, default=1000, help="of text in a row")
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    rows, planted = generate(options.rows, options.bytes)
    for label, some in {"both": rows, "en": rows[::2], "zh": rows[1::2]}.items():
        best = measure(some, {"bare": bare, "scrub": scrubbed}, options.rounds)
        (reference, _), (seconds, found) = best["bare"], best["scrub"]
        print(
            f"{label}: {len(some):,} rows; bare JSON loop {len(some) / reference:,.0f} rows per CPU s; "
            f"scrubbing {len(some) / seconds:,.0f} rows per CPU s; {dict(sorted(found.items()))}"
        )
    print(f"planted: {dict(sorted(planted.items()))}; most memory so far: {memory():,.0f} MB")
    few, planted = generate(options.peer_rows, options.bytes)
    best = measure(few, {"scrub": scrubbed, "presidio": presidio()}, 1)
    for label, (seconds, found) in best.items():
        print(f"{label}: {len(few):,} rows, {len(few) / seconds:,.0f} rows per CPU s; {dict(sorted(found.items()))}")
    print(
        f"planted: {dict(sorted(planted.items()))}; "
        f"scrubbing {best['presidio'][0] / best['scrub'][0]:,.1f} times as fast"
    )
    print(f"most memory with presidio's recognisers: {memory():,.0f} MB")


if __name__ == "__main__":
    main()
