"""What is checked on a dataset alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from medllm_ops.curation.segment import RETRACTED
from medllm_ops.curation.settings import CurationSettings
from medllm_ops.report.data.known import Known, listed, many, percent
from medllm_ops.report.data.model import Finding, Funnel, Level

# Limits of ours: from there on, a person looks.
LOST_SHARE: Final = 0.5
UNREADABLE_SHARE: Final = 0.01
# Sides are drawn by cluster, so the share of rows varies more than that of rows drawn one by one would.
DEVIATIONS: Final = 5.0
UNKNOWN: Final = ("", "unknown", "none", "null")
_NAMED: Final = 3


def balance(known: Known) -> Iterator[Finding]:
    """Every row is accounted for, by every step, in the list of what was removed and in the files."""
    failed = [account for account in known.accounts if not account.holds]
    for account in failed:
        more = len(account.wrong) - _NAMED
        told = "; ".join([*account.wrong[:_NAMED], *([f"{more:,} more"] if more > 0 else [])])
        yield _finding("wrong", "balance", f"This does not hold: {account.name}. {told}.", "funnel")
    if not failed:
        read = sum(each.read for each in known.sources)
        dropped = sum(sum(each.dropped.values()) for each in known.sources)
        train, val = sum(each.train for each in known.sources), sum(each.val for each in known.sources)
        checked = sum(account.checked for account in known.accounts)
        sentence = (
            f"Every step balances: {many(read, 'row')} came in, {dropped:,} were removed, each with its reason, and "
            f"{train + val:,} were written, {train:,} to train and {val:,} to validate. "
            f"{many(checked, 'equation')} checked, all hold."
        )
        yield _finding("good", "balance", sentence, "funnel")


def sides(known: Known) -> Iterator[Finding]:
    """No row stands twice, and none on both sides."""
    ids, validates = known.contents.ids, known.contents.sides
    again = ids[1:] == ids[:-1]
    both = int(np.count_nonzero(again & (validates[1:] != validates[:-1])))
    twice = int(np.count_nonzero(again)) - both
    if both:
        sentence = f"{many(both, 'id stands', 'ids stand')} on both sides: what validates is trained on."
        yield _finding("wrong", "sides", sentence, "files")
    if twice:
        sentence = f"{many(twice, 'row has', 'rows have')} the id of another row on the same side."
        yield _finding("wrong", "sides", sentence, "files")
    if not both and not twice:
        sentence = f"No id stands twice among {many(len(ids), 'written row')}, on one side or on both."
        yield _finding("good", "sides", sentence, "files")


def validation(known: Known) -> Iterator[Finding]:
    """Every source that is left has rows on both sides."""
    if not known.alive:
        yield _finding("wrong", "validation", "The dataset is empty: no row was written.", "funnel")
        return
    for each in known.alive:
        for missing, rows, others in (("validate", each.val, each.train), ("train", each.train, each.val)):
            if not rows:
                sentence = f"{each.source} has no row to {missing}, beside {others:,} on the other side."
                yield _finding("wrong", "validation", sentence, "funnel")
    if all(each.train and each.val for each in known.alive):
        fewest = min(known.alive, key=lambda each: (each.val, each.source))
        sentence = (
            f"Every source, {len(known.alive):,} in all, has rows to train and rows to validate; {fewest.source} has "
            f"the fewest, {fewest.val:,} to validate."
        )
        yield _finding("good", "validation", sentence, "funnel")


def validation_share(known: Known) -> Iterator[Finding]:
    """About as many rows validate as the settings say."""
    settings = CurationSettings.model_validate(known.settings) if known.settings else CurationSettings()
    odd = []
    for each in known.alive:
        share, rows = settings.val_share(each.source), each.train + each.val
        spread = DEVIATIONS * math.sqrt(rows * share * (1 - share))
        # One row on each side is always there, however few there are.
        if each.val and abs(each.val - rows * share) > spread + 1:
            odd.append(f"{percent(each.val, rows)} of {each.source} (set: {percent(share, 1)})")
    if odd:
        sentence = f"The share of rows that validate is far from its setting in {listed(odd)}."
        yield _finding("look", "validation share", sentence, "funnel")
    elif known.alive:
        sentence = "The share of rows that validate is near its setting in every source."
        yield _finding("good", "validation share", sentence, "funnel")


def lost(known: Known) -> Iterator[Finding]:
    """No source lost more than half of its rows; what a sample left out is not lost."""
    worst: tuple[float, Funnel] | None = None
    for each in known.sources:
        if not each.source or not each.read:
            continue
        gone = Counter({key: rows for key, rows in each.dropped.items() if key[0] != "sample"})
        share = gone.total() / each.read
        worst = max(worst or (share, each), (share, each), key=lambda pair: pair[0])
        if share > LOST_SHARE:
            (step, reason), rows = gone.most_common(1)[0]
            level: Level = "look" if each.train + each.val else "wrong"
            whole = "all" if gone.total() == each.read else f"{percent(gone.total(), each.read)} of"
            sentence = (
                f"{each.source} lost {whole} its {many(each.read, 'row')}, most of them ({rows:,}) in {step}: {reason}."
            )
            yield _finding(level, "lost rows", sentence, "funnel")
    if worst and worst[0] <= LOST_SHARE:
        share, each = worst
        most = f"{each.source} lost the most, {percent(share, 1)}" if share else "none lost any"
        sentence = f"No source lost more than half of its rows; {most}."
        yield _finding("good", "lost rows", sentence, "funnel")


def unreadable(known: Known) -> Iterator[Finding]:
    """Lines that are no records."""
    read = sum(each.read for each in known.sources)
    reasons = {each.reason: each.rows for each in known.reasons if each.step == "read" and each.reason != RETRACTED}
    if rows := sum(reasons.values()):
        level: Level = "look" if rows > UNREADABLE_SHARE * read else "note"
        most = max(reasons, key=lambda reason: (reasons[reason], reason))
        lines = many(rows, "input line is", "input lines are")
        sentence = f"{lines} no record, {percent(rows, read)} of all; most often: {most}."
        yield _finding(level, "unreadable lines", sentence, "reasons")
    else:
        yield _finding("good", "unreadable lines", f"All {many(read, 'input line')} could be read.", "reasons")


def retracted(known: Known) -> Iterator[Finding]:
    """Rows that their publishers withdrew."""
    if rows := sum(each.rows for each in known.reasons if each.reason == RETRACTED):
        sentence = f"{many(rows, 'retracted row was', 'retracted rows were')} left out."
        yield _finding("note", "retracted rows", sentence, "reasons")


def licences(known: Known) -> Iterator[Finding]:
    """Every row has a licence."""
    unknown = {
        each.source: rows
        for each in known.licences
        if (rows := sum(count for name, count in each.rows.items() if name.strip().lower() in UNKNOWN))
    }
    if unknown:
        told = [f"{rows:,} of {source}" for source, rows in sorted(unknown.items(), key=lambda item: (-item[1], item))]
        verb = "row has" if sum(unknown.values()) == 1 else "rows have"
        sentence = f"{sum(unknown.values()):,} {verb} no known licence: {listed(told)}."
        yield _finding("look", "licences", sentence, "licences")
    elif known.licences:
        names = {name for each in known.licences for name in each.rows}
        yield _finding(
            "good",
            "licences",
            f"Every row has a licence; there {'is' if len(names) == 1 else 'are'} {many(len(names), 'kind')}.",
            "licences",
        )


def decontaminated(known: Known) -> Iterator[Finding]:
    """What the rows were compared with, and what was found."""
    sets = known.decontamination.evalsets
    if not sets:
        sentence = "The rows were compared with no evaluation set: none was named."
        yield _finding("note", "decontamination", sentence, "decontamination")
        return
    for each in sets:
        if each.items and (each.too_short or 0) > each.items / 2:
            sentence = f"More than half of the {each.items:,} items of {each.file} are too short to be found."
            yield _finding("look", "decontamination", sentence, "decontamination")
    removed = sum(each.rows_removed or 0 for each in sets)
    if found := [each for each in sets if each.items_found]:
        told = [f"{each.items_found:,} of {each.items or 0:,} items of {each.file}" for each in found]
        verb = "row gave" if removed == 1 else "rows gave"
        sentence = f"{removed:,} {verb} away what a model will be evaluated on, and went: {listed(told)} were found."
        yield _finding("note", "decontamination", sentence, "decontamination")
    else:
        items = sum(each.items or 0 for each in sets)
        sentence = f"Nothing of {many(items, 'item')} of {many(len(sets), 'evaluation set')} was found in the rows."
        yield _finding("good", "decontamination", sentence, "decontamination")


def scrubbed(known: Known) -> Iterator[Finding]:
    """Whether personal data was looked for, and how much there was."""
    section = known.settings.get("scrub")
    if isinstance(section, dict) and section.get("enabled") is False:
        yield _finding("look", "scrubbing", "Scrubbing was switched off: personal data stays as it is.", "scrubbed")
        return
    kinds: Counter[str] = Counter()
    for mark in known.marks:
        if mark.step == "scrub":
            kinds[mark.rule] += mark.count
    if kinds:
        told = [f"{count:,} × {kind}" for kind, count in kinds.most_common()]
        pieces = many(kinds.total(), "piece of personal data was", "pieces of personal data were")
        yield _finding("note", "scrubbing", f"{pieces} replaced by marks: {listed(told)}.", "scrubbed")
    elif "data/marks.json" not in known.incomplete:
        yield _finding("good", "scrubbing", "No personal data was found.", "scrubbed")


def complete(known: Known) -> Iterator[Finding]:
    """All figures that the report rests on are there."""
    if names := known.incomplete:
        verb = "is" if len(names) == 1 else "are"
        sentence = f"{listed(names, 20)} {verb} missing: what would be told from there is left out."
        yield _finding("look", "figures", sentence, "files")


def _finding(level: Level, check: str, sentence: str, section: str) -> Finding:
    return Finding(level=level, check=check, sentence=sentence, section=section)
