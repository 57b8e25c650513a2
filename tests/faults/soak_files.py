"""Kills of what makes files: the split of a dataset and of a state, the export, the merge and its renames.

Each kill is of a process of its own, forked for it, right at an event that chance has chosen: the opening, renaming or
removal of a file. Then the same is asked for again, and what is there must be what it is without any kill.
"""

from __future__ import annotations

import random
import shutil
import signal
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from curation import made
from curation.killed_curate import apart, count, tree
from curation.state.conftest import SETTINGS, listing, row, text, write_segment
from medllm_ops.curation.curate import curate
from medllm_ops.curation.settings import check_settings
from medllm_ops.curation.state.state import CurationState
from medllm_ops.datasets.export import SetSettings, TokenCounts, export
from medllm_ops.files import code_hash, read_json, read_json_lines, write_json, write_json_lines
from medllm_ops.swift.merge import MergeRequest, merge
from medllm_ops.swift.prepared import Processes, Waiting


@dataclass(frozen=True)
class Done:
    """How one kill went: what was killed, where, whether it died of it, and what the rerun gave."""

    what: str
    where: str
    killed: bool
    right: bool
    again: str


class Work:
    """Something that makes ``out`` out of ``material``, and leaves nothing else beside it.

    :param prepare: makes the material, once. :param begin: what is there before, in ``folder``.
    :param make: what is killed. :param look: what is compared.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[Path], None],
        make: Callable[[Path, Path], None],
        begin: Callable[[Path, Path], None] = lambda material, folder: None,
        look: Callable[[Path], bytes] = lambda folder: orjson.dumps(
            {name: [len(data), data.decode("utf-8", "replace")] for name, data in tree(folder).items()}
        ),
    ) -> None:
        self.name, self.prepare, self.make, self.begin, self.look = name, prepare, make, begin, look

    def kill(self, work: Path, source: random.Random) -> Done:
        """Kill it at a random event, and ask for it again."""
        material, whole, folder = work / "material", work / "whole", work / "killed"
        if not (work / "events.json").is_file():
            shutil.rmtree(work, ignore_errors=True)
            material.mkdir(parents=True)
            whole.mkdir()
            self.prepare(material)
            self.begin(material, whole)
            _, events = apart(lambda: self._run(material, whole, 0))
            apart(lambda: self._tell(whole, work / "whole.json"))
            write_json(work / "events.json", {"events": events})
        events = read_json(work / "events.json")["events"]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.begin(material, folder)
        fatal = source.randint(1, events)
        killed, _ = apart(lambda: self._run(material, folder, fatal))
        apart(lambda: self._run(material, folder, 0))
        apart(lambda: self._tell(folder, work / "killed.json"))
        right = (work / "killed.json").read_bytes() == (work / "whole.json").read_bytes()
        return Done(self.name, f"event {fatal} of {events}", killed, right, "the same" if right else "something else")

    def _run(self, material: Path, folder: Path, fatal: int) -> int:
        def die(number: int) -> None:
            if number == fatal:
                signal.raise_signal(signal.SIGKILL)

        seen = count(str(folder), die)
        self.make(material, folder)
        return seen()

    def _tell(self, folder: Path, file: Path) -> int:
        file.write_bytes(self.look(folder))
        return 0


def _prepare_rows(material: Path) -> None:
    made.write(material / "rows.jsonl", [*made.rows(90, 21), b"{"])
    answer = made.rows(90, 21)[3]["messages"][-1]["content"]
    write_json_lines(material / "evalset.jsonl", [{"question": answer}])


def _curate(material: Path, folder: Path) -> None:
    settings = check_settings({"sample": {"total": 60}}, "settings")
    curate([material / "rows.jsonl"], folder / "out", settings, evalsets=[material / "evalset.jsonl"])


def _begin_state(material: Path, folder: Path) -> None:
    shutil.copytree(material / "state", folder / "state")


def _prepare_state(material: Path) -> None:
    first = [row(f"r{n}", text(n % 5, n // 5 * 3), "ab"[n % 2]) for n in range(10)]
    second = [row(f"r{n}", text((n + 1) % 5, 3)) for n in range(2, 8)] + [row("new", text(0, 1))]

    def make() -> int:
        with CurationState.open(material / "state", SETTINGS) as state:
            write_segment(state.next_segment, [*first, row("x", "", drop=("clean", "too short"))])
            state.absorb()
            write_segment(state.next_segment, second, ["r8", "x"])
        return 0

    apart(make)


def _absorb(material: Path, folder: Path) -> None:
    with CurationState.open(folder / "state", SETTINGS):
        pass


def _tell_state(folder: Path) -> bytes:
    with CurationState.open(folder / "state", SETTINGS) as state:
        told = listing(state)
    return repr((sorted(told["kept"].items()), told["removed"], told["counts"])).encode()


class _Counter:
    def __call__(self, files: Mapping[Path, str]) -> TokenCounts:
        lengths = {path: [len(one["messages"][0]["content"]) for one in read_json_lines(path)] for path in files}
        return TokenCounts(lengths, None, lengths)


def _in_halves(rows: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
    for one in rows:
        words = one["messages"][0]["content"]
        halves = words[: len(words) // 2], words[len(words) // 2 :]
        yield [
            {"id": f"{one['id']}#{number}", "messages": [{"role": "assistant", "content": half}]}
            for number, half in enumerate(halves)
        ]


def _prepare_sets(material: Path) -> None:
    for name in ("alpaca", "pubmed"):
        for side, rows in (("train", 40), ("val", 6)):
            lines = [
                {
                    "id": f"{name}:{side}{n}",
                    "messages": [{"role": "assistant", "content": "w" * (n + 5)}],
                    "content": "",
                }
                for n in range(rows)
            ]
            write_json_lines(material / "split" / side / f"{name}.jsonl", lines)


def _export(material: Path, folder: Path) -> None:
    sets = {"alpaca": SetSettings("sft", 30), "pubmed": SetSettings("pretrain", 30)}
    export(material / "split", sets, _Counter(), _in_halves, folder / "out")


def _safetensors(path: Path, value: float) -> None:
    header = orjson.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", value))


def _prepare_models(material: Path) -> None:
    for name, files in (("base", ("config.json",)), ("adapter", ("adapter_config.json",)), ("ready", ("config.json",))):
        (material / name).mkdir()
        for file in files:
            write_json(material / name / file, {"of": name})
        for number in range(3):
            _safetensors(material / name / f"model-{number}.safetensors", number)


class _Copies(Processes):
    """An export that is a copy, and a proof that is a sentence."""

    def __init__(self, material: Path) -> None:
        self._material = material

    def run(self, argv: list[str], environment: Mapping[str, str], log: Path) -> int:
        shutil.copytree(self._material / "ready", argv[argv.index("--output_dir") + 1])
        return 0

    def prepare(self, argv: list[str], environment: Mapping[str, str], log: Path) -> Waiting:
        return _Sentence(Path(argv[argv.index("--out") + 1]))


class _Sentence:
    def __init__(self, out: Path) -> None:
        self._out = out

    def finish(self) -> int:
        write_json(self._out, {"passed": True, "failures": [], "seconds": 0.0})
        return 0

    def end(self) -> None:
        """Nothing runs."""


def _merge_of(shards: str) -> Callable[[Path, Path], None]:
    """A merge whose export is a copy and whose proof is a sentence; names and renames are the real ones."""

    def do(material: Path, folder: Path) -> None:
        base, adapter, logs = material / "base", material / "adapter", folder.parent / "logs"
        out = folder / "models" / "merged"
        merge(
            MergeRequest(stage="sft", base=base, adapter=adapter, out=out, logs=logs, max_shard_size=shards),
            _Copies(material),
        )

    return do


WORKS = {
    "split": (
        Work("the split of a dataset", _prepare_rows, _curate),
        Work("the split of a state", _prepare_state, _absorb, _begin_state, _tell_state),
    ),
    "export": (Work("the export of a dataset", _prepare_sets, _export),),
    "merge": (
        Work("a first merge", _prepare_models, _merge_of("5GB")),
        Work("a merge over an older one", _prepare_models, _merge_of("5GB"), _merge_of("1GB")),
    ),
}


def kill_files(area: str, work: Path, source: random.Random) -> Done:
    """One kill in an area of :data:`WORKS`."""
    code_hash()
    code_hash("curation")
    number = source.randrange(len(WORKS[area]))
    return WORKS[area][number].kill(work / area / str(number), source)
