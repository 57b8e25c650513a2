"""ClinicalTrials.gov studies and 中医世家 dumps to records, against bare reading in the same run.

``python benchmarks/parse_sources.py [--studies 10000] [--chapters 20000] [--rounds 3]`` generates a zip of studies and
a dump of a book, and reads each in two ways, each in a process of its own: ``bare`` unpacks and parses JSON, or decodes
and splits lines, and looks at nothing; ``records`` makes records. Printed are rows per CPU second, the memory above the
imports, and the ratio of CPU times (best of the rounds).
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import orjson
import pubmed_refresh

from medllm_ops.sources.clinicaltrials import parse as parse_studies
from medllm_ops.sources.tcm_books import parse as parse_books

HAN = "黄帝内经素问伤寒论金匮要略本草纲目阴阳五行脉诊舌苔寒热虚实表里气血津液脏腑经络"


def study(chance: random.Random, number: int) -> dict[str, object]:
    """A study with what most of them have: about 6 KB of JSON."""
    sentence = lambda: pubmed_refresh.sentence(chance, 14)  # noqa: E731
    paragraph = " ".join(sentence() for _ in range(6))
    criteria = "\n".join(f"* {sentence()} \\[{n}\\]" for n in range(12))
    return {
        "protocolSection": {
            "identificationModule": {"nctId": f"NCT{number:08}", "briefTitle": sentence(), "officialTitle": sentence()},
            "statusModule": {"overallStatus": "COMPLETED", "lastUpdatePostDateStruct": {"date": "2026-01-31"}},
            "descriptionModule": {"briefSummary": paragraph, "detailedDescription": f"{paragraph}\n\n{paragraph}"},
            "conditionsModule": {"conditions": [sentence() for _ in range(2)]},
            "eligibilityModule": {"eligibilityCriteria": f"Inclusion Criteria:\n{criteria}", "sex": "ALL"},
            "outcomesModule": {"primaryOutcomes": [{"measure": sentence(), "timeFrame": "6 months"}]},
            "contactsLocationsModule": {
                "centralContacts": [{"name": "A Person", "phone": "555-0100", "email": "person@example.org"}],
                "locations": [{"facility": sentence(), "city": "Nowhere"} for _ in range(10)],
            },
        },
        "hasResults": False,
    }


def generate_studies(path: Path, count: int) -> None:
    """A zip with a file for each study, as the publisher's."""
    chance = random.Random(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1, count + 1):
            archive.writestr(f"NCT{number:08}.json", orjson.dumps(study(chance, number)))


def generate_book(path: Path, count: int) -> None:
    """A dump of a book with chapters of some 400 characters, in GB18030, with hard wraps and image junk."""
    chance = random.Random(0)
    lines = ["<篇名>某书", "书名：某书", "作者：某人", "朝代：明", "年份：公元1600年", ""]
    for number in range(count):
        lines += ["<目录>卷一", f"<篇名>第{number}节", "内容：" + "".join(chance.choices(HAN, k=60)) + " "]
        lines += ["".join(chance.choices(HAN, k=60)) + " " for _ in range(5)] + ["\r...\\pG-G1.bmp\r"]
    path.write_bytes("\n".join(lines).encode("gb18030"))


def bare_studies(path: Path) -> int:
    """Unpack each file and parse its JSON."""
    with zipfile.ZipFile(path) as archive:
        return sum(isinstance(orjson.loads(archive.read(name)), dict) for name in archive.namelist())


def bare_book(path: Path) -> int:
    """Decode, and count the chapters."""
    return sum(line.startswith("<篇名>") for line in path.read_bytes().decode("gb18030").splitlines())


WAYS = {
    ("studies", "bare"): bare_studies,
    ("studies", "records"): lambda path: sum(1 for _ in parse_studies(path)),
    ("chapters", "bare"): bare_book,
    ("chapters", "records"): lambda path: sum(1 for _ in parse_books(path)),
}


def measure(kind: str, way: str, path: Path) -> None:
    """In a process of its own: print rows, CPU seconds, and MiB above what the imports took."""
    before = pubmed_refresh.resident("VmRSS")
    start = time.process_time()
    rows = WAYS[kind, way](path)
    print(rows, time.process_time() - start, pubmed_refresh.resident("VmHWM") - before)


def main() -> None:
    """Generate, measure in turn, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--studies", type=int, default=10_000)
    arguments.add_argument("--chapters", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        kind, way, path = options.measure
        measure(kind, way, Path(path))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = {"studies": Path(folder) / "studies.zip", "chapters": Path(folder) / "book.txt"}
        generate_studies(paths["studies"], options.studies)
        generate_book(paths["chapters"], options.chapters)
        best: dict[tuple[str, str], float] = {}
        for _ in range(options.rounds):
            for kind, way in WAYS:
                command = [sys.executable, __file__, "--measure", kind, way, str(paths[kind])]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                rows, seconds, memory = int(output[0]), float(output[1]), float(output[2])
                best[kind, way] = min(seconds, best.get((kind, way), seconds))
                print(f"{kind}, {way}: {rows} rows, {rows / seconds:,.0f} per CPU second, {memory:.0f} MiB")
    for kind in paths:
        print(f"{kind}: CPU of records / bare: {best[kind, 'records'] / best[kind, 'bare']:.1f}")


if __name__ == "__main__":
    main()
