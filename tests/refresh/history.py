"""A made-up history of PubMed: a baseline and update files, and what must be alive after each of them.

It has what the real one has: corrected abstracts, versions, deletions, records that come back, retractions, citations
without an abstract (also ones that had one), and update files that repeat what was there before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from servers.pubmed_xml import article_set, citation

WORDS = ("aspirin", "dose", "trial", "cohort", "renal", "hepatic", "placebo", "outcome", "risk", "artery", "insulin")


@dataclass(frozen=True)
class Citation:
    """What is true of a record that lives."""

    title: str
    abstract: str
    version: int = 1
    retracted: bool = False

    @property
    def text(self) -> str:
        return f"{self.title}\n{self.abstract}"


@dataclass
class File:
    """One file: its name below the mirror's root, its XML, and what must be alive once it is applied."""

    name: str
    xml: bytes
    truth: dict[str, Citation] = field(default_factory=dict)


def history(
    seed: int, baseline: int = 4, updates: int = 30, rows: int = 60, forget_a_deletion: bool = False
) -> Iterator[File]:
    """The files of one year, in order.

    :param forget_a_deletion: the truth then lacks one deletion that the files have: a comparison must notice.
    """
    source = random.Random(seed)
    alive: dict[str, Citation] = {}
    gone: list[str] = []
    ghosts: dict[str, Citation] = {}
    pmids = iter(range(1, 1_000_000))
    for number in range(1, baseline + updates + 1):
        written = []
        is_update = number > baseline
        for _ in range(rows):
            kind = source.choices(
                ["new", "correct", "version", "retract", "back", "repeat", "empty", "older"],
                [40, 20, 8, 6, 6, 10, 4, 3] if is_update else [1, 0, 0, 0, 0, 0, 0, 0],
            )[0]
            if kind == "new" or not alive or (kind == "back" and not gone):
                pmid, old = str(next(pmids)), Citation("", "", 1)
            elif kind == "back":
                pmid, old = gone.pop(source.randrange(len(gone))), Citation("", "", 1)
            else:
                pmid = source.choice(list(alive))
                old = alive[pmid]
            if kind == "empty":
                written.append(citation(int(pmid), title=old.title, abstract=None, version=old.version))
                alive.pop(pmid, None)
                gone.append(pmid)
                continue
            if kind == "older":
                # A late repetition of an earlier version changes nothing.
                if old.version > 1:
                    written.append(citation(int(pmid), title="old", abstract="old", version=old.version - 1))
                continue
            new = old if kind in ("repeat", "retract") else Citation(_words(source, 5), _words(source, 40), old.version)
            if kind == "version":
                new = Citation(new.title, new.abstract, old.version + 1)
            if kind == "retract":
                new = Citation(old.title, old.abstract, old.version, True)
            alive[pmid] = new
            written.append(
                citation(
                    int(pmid),
                    title=new.title,
                    abstract=new.abstract,
                    version=new.version,
                    retracted_in="J Truth. 2026" if new.retracted and source.random() < 0.5 else None,
                    retracted_type=new.retracted,
                )
            )
        deletions = source.sample(sorted(alive), min(len(alive), source.randrange(6))) if is_update else []
        for pmid in deletions:
            old = alive.pop(pmid)
            if forget_a_deletion and not ghosts and number == baseline + updates - 1:
                ghosts[pmid] = old  # and not into ``gone``: nothing later may mend the mistake by chance
            else:
                gone.append(pmid)
        folder = "updatefiles" if is_update else "baseline"
        truth = alive | ghosts
        xml = article_set(written, [int(pmid) for pmid in deletions])
        yield File(f"{folder}/pubmed26n{number:04}.xml.gz", xml, truth)


def _words(source: random.Random, count: int) -> str:
    return " ".join(source.choices(WORDS, k=count)).capitalize() + f" {source.randrange(10**6)}."
