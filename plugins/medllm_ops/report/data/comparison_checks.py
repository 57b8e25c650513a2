"""What is checked on a dataset beside the one before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from medllm_ops.report.data.drift import MODERATE, SIGNIFICANT
from medllm_ops.report.data.known import Known, listed, many, percent
from medllm_ops.report.data.model import Drift, Finding, Level, Stability

# Limits of ours: from there on, a person looks.
GONE_SHARE: Final = 0.1
CHANGED_SHARE: Final = 0.2
# Of a source with a dozen rows, two are no trend.
FEW: Final = 10
_INDICES: Final = "population stability indices"
_WHAT: Final = {
    "sources": "the mixture of sources",
    "languages": "the mixture of languages",
    "lengths": "the lengths of rows",
    "characters": "the characters of the text",
}


def sides_kept(known: Known) -> Iterator[Finding]:
    """No row changed its side."""
    if not (compared := known.comparison):
        return
    to_train, to_val = sum(each.to_train for each in compared.rows), sum(each.to_val for each in compared.rows)
    if to_train + to_val:
        sentence = (
            f"{many(to_train + to_val, 'row')} changed sides since {compared.previous}: {to_train:,} from val to "
            f"train and {to_val:,} from train to val. A side is decided once; what models were evaluated on is "
            "trained on."
        )
        yield _finding("wrong", "sides kept", sentence)
    else:
        met = sum(each.same + each.changed for each in compared.rows)
        sentence = (
            f"No row changed its side: {many(met, 'row')} of {compared.previous} are here again, where they were."
        )
        yield _finding("good", "sides kept", sentence)


def retracted_since(known: Known) -> Iterator[Finding]:
    """Rows that the previous dataset has, and that are retracted by now."""
    if (compared := known.comparison) and compared.retracted:
        rows = many(compared.retracted, "row")
        sentence = (
            f"{rows} of {compared.previous} {'is' if compared.retracted == 1 else 'are'} retracted by now and left out "
            "here; models that were trained on it have seen them."
        )
        yield _finding("look", "retracted since", sentence)


def rows_changed(known: Known) -> Iterator[Finding]:
    """How much of the previous dataset is there still, and how much is another text."""
    if not (compared := known.comparison):
        return
    for each in compared.rows:
        if each.before and not each.now:
            yield _finding("look", "rows gone", f"{each.source} is gone, with its {many(each.before, 'row')}.")
        elif each.gone > max(FEW, GONE_SHARE * each.before):
            share = percent(each.gone, each.before)
            sentence = f"{many(each.gone, 'row')} of {each.source}, {share} of those before, are gone."
            yield _finding("look", "rows gone", sentence)
        if each.changed > max(FEW, CHANGED_SHARE * (each.same + each.changed)):
            share = percent(each.changed, each.same + each.changed)
            sentence = f"{share} of the rows of {each.source} that stayed have another text now."
            yield _finding("look", "rows changed", sentence)
    new, changed, gone = (sum(getattr(each, name) for each in compared.rows) for name in ("new", "changed", "gone"))
    sentence = f"Since {compared.previous}: {many(new, 'new row')}, {changed:,} with another text, {gone:,} gone."
    yield _finding("note", "rows", sentence)


def drifted(known: Known) -> Iterator[Finding]:
    """No distribution moved beyond the usual limit."""
    if not (compared := known.comparison):
        return
    limits: tuple[tuple[Level, Stability, float], ...] = (
        ("look", "significant", SIGNIFICANT),
        ("note", "moderate", MODERATE),
    )
    for level, stability, limit in limits:
        moved = [drift for drift in compared.drifts if drift.stability == stability]
        for what in _WHAT:
            own = [drift for drift in moved if drift.what == what and drift.source is not None]
            for each in (drift for drift in moved if drift.what == what and drift.source is None):
                yield _finding(level, "drift", _moved(each, limit))
            if len(own) == 1:
                yield _finding(level, "drift", _moved(own[0], limit))
            elif own:
                told = [f"{drift.source} ({drift.psi:.2f})" for drift in sorted(own, key=lambda drift: -drift.psi)]
                sentence = (
                    f"{_capital(_WHAT[what])} drifted within {len(own)} sources (population stability index above "
                    f"{limit:.2f}): {listed(told)}."
                )
                yield _finding(level, "drift", sentence)
    if compared.drifts and all(each.stability == "stable" for each in compared.drifts):
        highest = max(compared.drifts, key=lambda each: each.psi)
        sentence = (
            f"No distribution drifted: of {many(len(compared.drifts), 'population stability index', _INDICES)} the "
            f"highest is {highest.psi:.3f} ({_name(highest)}), below {MODERATE:.2f} or what chance alone gives."
        )
        yield _finding("good", "drift", sentence)


def _moved(drift: Drift, limit: float) -> str:
    most = max(drift.bins, key=lambda each: abs(each.now - each.before))
    unit = " characters and up" if drift.what == "lengths" else ""
    return (
        f"{_capital(_name(drift))} drifted: population stability index {drift.psi:.2f} (above {limit:.2f}); most of "
        f"all {most.name}{unit}, from {percent(most.before, 1)} to {percent(most.now, 1)}."
    )


def _name(drift: Drift) -> str:
    return _WHAT[drift.what] + (f" of {drift.source}" if drift.source else "")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def settings_changed(known: Known) -> Iterator[Finding]:
    """Whether the datasets were made alike."""
    if (compared := known.comparison) and compared.settings:
        sentence = f"{many(len(compared.settings), 'setting')} changed: {listed(compared.settings)}."
        yield _finding("note", "settings", sentence)


def _finding(level: Level, check: str, sentence: str) -> Finding:
    return Finding(level=level, check=check, sentence=sentence, section="drift")
