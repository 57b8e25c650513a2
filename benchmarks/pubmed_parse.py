"""PubMed XML to records against a bare ``lxml.iterparse`` that extracts nothing, in the same run on the same file.

``python benchmarks/pubmed_parse.py [--megabytes 100] [--rounds 3]`` generates a gzip file of records of typical size
and make-up (6 to 7 KB of XML, abstract with labels and markup, authors, MeSH headings, references), reads it in turn
in both ways, each in a process of its own, and prints MB of unpacked XML per CPU second, the memory above the
imports, and the ratio of CPU times (the best of the rounds of each).
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from isal import igzip
from lxml import etree

from medllm_ops.records import Document
from medllm_ops.sources.pubmed import parse

WORDS = re.findall(
    r"\w+",
    "patients treatment outcome risk study group clinical effect increased compared significant associated therapy "
    "cells expression protein levels response analysis data disease months median survival trial placebo baseline",
)
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD" "pubmed.dtd">\n'


def sentence(chance: random.Random, words: int) -> str:
    """A sentence of random words, one in ten with the markup that abstracts have (real ones: 0.7 elements each)."""
    text = " ".join(chance.choices(WORDS, k=words)).capitalize()
    return f"{text} (<i>p</i> &lt; 0.05, IL-<sub>6</sub>, β)." if chance.random() < 0.1 else f"{text}."


def record(chance: random.Random, pmid: int) -> str:
    """One citation; one in six has no abstract, as in the samples."""
    paragraphs = "".join(
        f'<AbstractText Label="{label}" NlmCategory="{label}">{" ".join(sentence(chance, 14) for _ in range(4))}'
        "</AbstractText>"
        for label in ("BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS")
    )
    abstract = f"<Abstract>{paragraphs}</Abstract>" if chance.random() > 1 / 6 else ""
    authors = "".join(
        f'<Author ValidYN="Y"><LastName>{chance.choice(WORDS)}</LastName><ForeName>A</ForeName><AffiliationInfo>'
        f"<Affiliation>{' '.join(chance.choices(WORDS, k=8))}</Affiliation></AffiliationInfo></Author>"
        for _ in range(6)
    )
    headings = "".join(
        f'<MeshHeading><DescriptorName UI="D{n:06}" MajorTopicYN="N">{chance.choice(WORDS)}</DescriptorName>'
        "</MeshHeading>"
        for n in range(10)
    )
    references = "".join(
        f"<Reference><Citation>{' '.join(chance.choices(WORDS, k=8))}</Citation><ArticleIdList>"
        f'<ArticleId IdType="pubmed">{chance.randint(1, 10**7)}</ArticleId></ArticleIdList></Reference>'
        for _ in range(8)
    )
    return f"""<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{pmid}</PMID>
<Article PubModel="Print"><Journal><Title>A journal</Title></Journal><ArticleTitle>{sentence(chance, 10)}</ArticleTitle>
{abstract}<AuthorList CompleteYN="Y">{authors}</AuthorList><Language>eng</Language><PublicationTypeList>
<PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList></Article>
<MeshHeadingList>{headings}</MeshHeadingList></MedlineCitation>
<PubmedData><ReferenceList>{references}</ReferenceList></PubmedData></PubmedArticle>
"""


def generate(path: Path, megabytes: int) -> int:
    """Write the file and return the bytes of its XML."""
    chance = random.Random(0)
    size = pmid = 0
    with igzip.open(path, "wb") as file:
        size += file.write((HEAD + "<PubmedArticleSet>\n").encode())
        while size < megabytes * 1_000_000:
            pmid += 1
            size += file.write(record(chance, pmid).encode())
        size += file.write(b"</PubmedArticleSet>\n")
    return int(size)


def bare(path: Path) -> int:
    """Go over all records with iterparse, look at nothing, free each."""
    records = 0
    with igzip.open(path) as file:
        for _, element in etree.iterparse(file, tag="PubmedArticle"):
            records += 1
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    return records


def ours(path: Path) -> int:
    """Make all records and count those with text."""
    return sum(isinstance(item, Document) for item in parse(path))


def measure(way: str, path: Path) -> None:
    """In a process of its own: print records, CPU seconds, and MiB above what the imports took."""
    before = resident("VmRSS")
    start = time.process_time()
    records = {"bare": bare, "ours": ours}[way](path)
    seconds = time.process_time() - start
    print(records, seconds, resident("VmHWM") - before)


def resident(field: str) -> float:
    """Memory of this process in MiB: now (``VmRSS``) or at its peak (``VmHWM``)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Generate, measure in turn, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--megabytes", type=int, default=100)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.xml.gz"
        megabytes = generate(path, options.megabytes) / 1_000_000
        best: dict[str, float] = {}
        for _ in range(options.rounds):
            for way in ("bare", "ours"):
                command = [sys.executable, __file__, "--measure", way, str(path)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                seconds = float(output[1])
                best[way] = min(seconds, best.get(way, seconds))
                print(f"{way}: {output[0]} records, {megabytes / seconds:.0f} MB/s of CPU, {float(output[2]):.0f} MiB")
    print(f"CPU of ours / bare iterparse: {best['ours'] / best['bare']:.2f}")


if __name__ == "__main__":
    main()
