"""From deduplicated records to the rows of each side, the identity set among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from medllm_ops.curation.deduplicate import content_hash
from medllm_ops.curation.split import Assignments, AssignmentTable, split_set
from medllm_ops.datasets.identity import SET_NAME, Identity, identity_rows, mix
from medllm_ops.errors import MedllmError
from medllm_ops.files import file_hash, make_once, read_json, read_json_lines, write_json, write_json_lines

IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """How the self-cognition set is made.

    :param rows: rows with placeholders; :param identity: what goes into them.
    :param identity_rows: how many of them, over both sides; ``instruction_rows`` likewise.
    :param instruction_sets: the sets that the instruction rows are drawn from, those of them that the run has; none
        named means all of instruction tuning.
    """

    rows: Path
    identity: Identity
    identity_rows: int
    instruction_rows: int
    seed: int
    instruction_sets: tuple[str, ...] = ()


def split(
    source: Path,
    val_shares: Mapping[str, float],
    identity: IdentitySettings | None,
    table: Path,
    out: Path,
) -> None:
    """Write ``out/train`` and ``out/val``, one file for each set, whole or not at all.

    ``out`` gets ``sets.json`` (set name to stage), ``removed.jsonl`` and ``ledger.json`` beside them.

    :param source: what :func:`medllm_ops.curation.deduplicate.deduplicate` left.
    :param val_shares: stage to the share of its sets for validation.
    :param table: the file of the assignments that all runs share.
    """
    sets: dict[str, str] = read_json(source / "sets.json")
    files = [*(source / f"{name}.jsonl" for name in sets), *([identity.rows] if identity else [])]
    inputs = [[path.name, file_hash(path)] for path in files]
    settings = repr(replace(identity, rows=Path(identity.rows.name))) if identity else ""

    def make(folder: Path) -> None:
        # The table is on disk before the dataset has its name: a run that is killed in between decides nothing anew.
        with AssignmentTable(table) as assignments:
            _write(source, sets, val_shares, identity, assignments, folder)

    make_once(out, [inputs, dict(val_shares), settings], make)


def _write(
    source: Path,
    sets: Mapping[str, str],
    val_shares: Mapping[str, float],
    identity: IdentitySettings | None,
    assignments: Assignments,
    folder: Path,
) -> None:
    ledger, removed = [], []
    for name, stage in sets.items():
        rows = list(read_json_lines(source / f"{name}.jsonl"))
        entry, left_out = split_set(name, rows, val_shares[stage], assignments, folder)
        ledger.append(entry.to_row())
        removed += left_out
    if identity:
        rows = identity_rows(identity.rows, identity.identity)
        rows = [{**row, "content": content_hash(row)} for row in rows]
        entry, _ = split_set(IDENTITY, rows, val_shares[SET_NAME], assignments, folder)
        ledger.append(entry.to_row())
        wanted = identity.instruction_sets or [name for name, stage in sets.items() if stage == "sft"]
        instruction_sets = [name for name in wanted if name in sets]
        if wanted and not instruction_sets:
            raise MedllmError(f"self-cognition mixes in rows of {', '.join(wanted)}, but this run has none of them")
        for side, share in (("train", 1 - val_shares[SET_NAME]), ("val", val_shares[SET_NAME])):
            general = [row for name in instruction_sets for row in read_json_lines(folder / side / f"{name}.jsonl")]
            counts = (round(identity.identity_rows * share), round(identity.instruction_rows * share))
            own = list(read_json_lines(folder / side / f"{IDENTITY}.jsonl"))
            write_json_lines(folder / side / f"{SET_NAME}.jsonl", mix(own, general, counts, identity.seed))
    write_json(folder / "sets.json", {**sets, SET_NAME: SET_NAME} if identity else dict(sets))
    write_json_lines(folder / "removed.jsonl", removed)
    write_json(folder / "ledger.json", ledger)
