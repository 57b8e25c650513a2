"""Near duplicates on generated rows with planted truth, against datatrove's MinHash pipeline and Data-Juicer's.

``python benchmarks/near_duplicates.py [--rows 200000] [--peer-rows 200000] [--workers 2] [--increment 30000]
[--peers datatrove,data-juicer]`` generates rows of about 1 KB, half English-like and half Chinese-like (words of a
Zipf distribution, sentences, punctuation), of which

* 10 % repeat an earlier row: as it is, with other white space, wrapped, or (which is near) with other punctuation;
* 10 % are near duplicates: 1, 2, 5, 8 or 10 % of the words or characters replaced, removed or added here and there;
* 5 % are borderline negatives: 20 or 30 % changed here and there, or 30, 50 or 70 % of an earlier row as the head of
  another text.

With peers, each tool reads one file of ``--peer-rows`` in a process of its own, the peers in virtual environments that
are made for them; our own costs are also measured on ``--rows``.
Printed are rows per CPU second (all processes), peak memory of all processes together, recall for each language and
kind, precision (of what was taken as duplicates), the ratios; and what a step of ``--increment`` new rows costs with
the signatures of all rows remembered.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

KINDS = ("exact", "white space", "wrapped", "punctuation")
STRENGTHS = (0.01, 0.02, 0.05, 0.08, 0.10)
POSITIVE = (*KINDS, *(f"edited {share:.0%}" for share in STRENGTHS))

DATATROVE = """
import json, sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.typeshelper import Languages

if __name__ == "__main__":
    source, work, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8)
    reader = lambda: JsonlReader(str(Path(source).parent), glob_pattern=Path(source).name)
    run = lambda steps, tasks: LocalPipelineExecutor(
        pipeline=steps, tasks=tasks, workers=min(tasks, 2), logging_dir=None).run()
    run([reader(), MinhashDedupSignature(f"{work}/sig", config=config, language=Languages.english)], 1)
    run([MinhashDedupBuckets(f"{work}/sig", f"{work}/buckets", config=config)], 16)
    run([MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)], 1)
    run([reader(), MinhashDedupFilter(f"{work}/remove", exclusion_writer=None),
         JsonlWriter(f"{work}/kept", compression=None)], 1)
    kept = [json.loads(line)["id"] for path in Path(work, "kept").glob("*.jsonl") for line in path.open()]
    Path(work, "kept.json").write_text(json.dumps(kept))
"""

DATA_JUICER = """
import json, sys
from pathlib import Path
from data_juicer.core.data import NestedDataset
from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator

if __name__ == "__main__":
    source, work, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    data = NestedDataset.from_json(source)
    op = DocumentMinhashDeduplicator(tokenization="character", num_proc=workers)
    hashed = data.map(op.compute_hash, num_proc=workers)
    kept, _ = op.process(hashed)
    Path(work, "kept.json").write_text(json.dumps(list(kept["id"])))
"""

PEERS = {
    "datatrove": (DATATROVE, ("datatrove[processing,io]", "spacy", "fsspec")),
    "data-juicer": (DATA_JUICER, ("py-data-juicer", "aiohttp", "scipy")),
}


class Texts:
    """Tokens of two made-up languages."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        letters = "aaabcdeeeefghiiijklmnnnoooprrrsssttttuuvwxyz"
        self.words = ["".join(self.chance.choices(letters, k=self.chance.randint(2, 11))) for _ in range(20_000)]
        han = [chr(code) for code in self.chance.sample(range(0x4E00, 0x9FA0), 4_000)]
        self.han = ["".join(self.chance.choices(han, k=self.chance.choice((1, 2, 2, 2, 3)))) for _ in range(20_000)]
        weights = 1 / np.arange(5, 20_005)
        self.sums = np.cumsum(weights / weights.sum())

    def tokens(self, language: str, count: int) -> list[str]:
        """So many words; of Chinese ones, the characters."""
        vocabulary = self.words if language == "en" else self.han
        chosen = [vocabulary[place] for place in np.searchsorted(self.sums, self.numbers.random(count)).tolist()]
        return chosen if language == "en" else list("".join(chosen))

    def text(self, language: str) -> list[str]:
        """The tokens of about 1 KB of text."""
        return self.tokens(
            language, self.chance.randint(120, 180) if language == "en" else self.chance.randint(170, 230)
        )

    def edited(self, tokens: list[str], share: float, language: str) -> list[str]:
        """The tokens with a share of them replaced, followed by another one, or left out."""
        places = set(self.chance.sample(range(len(tokens)), max(1, round(share * len(tokens)))))
        others = iter(self.tokens(language, len(places) + 1))
        edited = []
        for place, token in enumerate(tokens):
            act = self.chance.random() if place in places else 1.0
            if act < 0.6:
                edited.append(next(others))
            elif act < 0.8:
                edited += [token, next(others)]
            elif act == 1.0:
                edited.append(token)
        return edited

    def write(self, tokens: list[str], language: str, kind: str) -> str:
        """The tokens in sentences; the punctuation depends on the tokens, so that a copy has the same."""
        space, comma, stop = (" ", ",", ".") if language == "en" else ("", "，", "。")
        if kind == "punctuation":
            comma, stop = (";", "!") if language == "en" else ("、", "；")
        every = 11 if language == "en" else 17
        parts = [
            token + (stop if place % (3 * every) == every else comma if place % every == every else "")
            if place % every
            else token + (stop if place % (3 * every) == 0 else comma)
            for place, token in enumerate(tokens, start=1)
        ]
        text = space.join(parts)
        if kind == "white space":
            return "  " + (text.replace(" ", "  ") if language == "en" else " ".join(text)) + "\n"
        if kind == "wrapped":
            return (
                "\n".join(text[start : start + 60] for start in range(0, len(text), 60))
                if language == "zh"
                else (text.replace(" ", "\n", len(parts) // 8))
            )
        return text


@dataclass
class Truth:
    """By id: language, kind, and the id of the row that it was made of."""

    rows: dict[str, tuple[str, str, str]]

    def judge(self, pairs: dict[str, str], removed: set[str]) -> dict[str, Any]:
        """Recall by language and kind, and precision, of the rows that a tool took for duplicates.

        :param pairs: id to a name of its cluster; empty if the tool does not tell.
        """
        found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        right = 0
        group = {id_: origin if kind in POSITIVE else id_ for id_, (_, kind, origin) in self.rows.items()}
        members = Counter(group.values())
        for id_, (language, kind, origin) in self.rows.items():
            if kind in POSITIVE:
                counts = found[language, kind]
                counts[1] += 1
                counts[0] += pairs[id_] == pairs[origin] if pairs else id_ in removed or origin in removed
        # Of each true group, all but one may go.
        gone = Counter(group[id_] for id_ in removed)
        right = sum(min(count, members[name] - 1) for name, count in gone.items())
        table = {
            f"{language} {kind}": round(one / every, 4) for (language, kind), (one, every) in sorted(found.items())
        }
        recall = {}
        for language in ("en", "zh"):
            near = [counts for (lang, kind), counts in found.items() if lang == language and kind.startswith("edited")]
            recall[language] = round(sum(one for one, _ in near) / max(1, sum(every for _, every in near)), 4)
        wrong = {
            language: Counter(
                self.rows[id_][1] for id_ in removed if self.rows[id_][0] == language and members[group[id_]] == 1
            )
            for language in ("en", "zh")
        }
        return {
            "recall of near": recall,
            "precision": round(right / max(1, len(removed)), 4),
            "removed": len(removed),
            "by kind": table,
            "wrongly removed": {language: dict(counts) for language, counts in wrong.items()},
        }


def generate(path: Path, rows: int, seed: int, prefix: str, *, text_field: bool = False) -> Truth:
    """Write rows as ``convert`` does, and return what was planted.

    :param text_field: the text stands there once more, as ``text``, which is what the peers read.
    """
    texts = Texts(seed)
    truth: dict[str, tuple[str, str, str]] = {}
    originals: dict[str, list[tuple[str, list[str]]]] = {"en": [], "zh": []}
    with path.open("wb") as file:
        for number in range(rows):
            id_ = f"{prefix}:{number:08}"
            language = "en" if number % 2 else "zh"
            kind, origin, tokens = _plant(texts, originals[language], language)
            truth[id_] = (language, kind, origin or id_)
            text = texts.write(tokens, language, kind)
            row = {
                "id": id_,
                "messages": [{"role": "assistant", "content": text}],
                "source": prefix,
                "language": language,
                "title": "",
                "url": "",
                "licence": "",
                "version": 1,
                "retracted": False,
            }
            if text_field:
                row["text"] = text
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            if kind == "original" and (len(originals[language]) < 50_000 or texts.chance.random() < 0.05):
                originals[language].append((id_, tokens))
                if len(originals[language]) > 60_000:
                    del originals[language][:10_000]
    return Truth(truth)


def _plant(texts: Texts, originals: list[tuple[str, list[str]]], language: str) -> tuple[str, str, list[str]]:
    dice = texts.chance.random()
    if dice >= 0.25 or not originals:
        return "original", "", texts.text(language)
    origin, tokens = texts.chance.choice(originals)
    if dice < 0.10:
        return texts.chance.choice(KINDS), origin, tokens
    if dice < 0.20:
        share = texts.chance.choice(STRENGTHS)
        return f"edited {share:.0%}", origin, texts.edited(tokens, share, language)
    if texts.chance.random() < 0.4:
        share = texts.chance.choice((0.2, 0.3))
        return f"negative, edited {share:.0%}", "", texts.edited(tokens, share, language)
    share = texts.chance.choice((0.3, 0.5, 0.7))
    head = tokens[: round(share * len(tokens))]
    other = texts.text(language)
    rest = (other + texts.text(language))[: len(tokens) - len(head)]
    return f"negative, head {share:.0%}", "", head + rest


def ours(source: str, work: str, workers: int, runner: str) -> None:
    """The child that runs our step; prints nothing, leaves ``clusters.parquet``."""
    from medllm_ops.curation.duplicates.duplicates import deduplicate
    from medllm_ops.curation.duplicates.settings import DuplicateSettings

    deduplicate({"a": Path(source)}, Path(work) / "out", DuplicateSettings(), worker_count=workers, runner=runner)  # type: ignore[arg-type]


def increment(source: str, new: str, work: str, workers: int) -> None:
    """The child that remembers all rows, then takes new ones; prints the CPU seconds of each."""
    from medllm_ops.curation.duplicates.duplicates import deduplicate
    from medllm_ops.curation.duplicates.settings import DuplicateSettings
    from medllm_ops.curation.duplicates.signature_folder import SignatureFolder

    settings = DuplicateSettings()
    known = SignatureFolder(Path(work) / "signatures", settings)
    spent = []
    for number, path in enumerate((source, new)):
        before, start = _cpu(), time.perf_counter()
        deduplicate({"a": Path(path)}, Path(work) / f"out{number}", settings, known=known, worker_count=workers)
        spent.append({"cpu s": round(_cpu() - before, 2), "wall s": round(time.perf_counter() - start, 2)})
    size = sum(path.stat().st_size for path in (Path(work) / "signatures").rglob("*") if path.is_file())
    print(json.dumps({"all rows": spent[0], "new rows": spent[1], "signatures MB": size >> 20}))


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def measured(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, dict[str, float]]:
    """Run a command; its output, and CPU seconds, wall seconds and peak GB of all its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak = [0]
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.2):
            peak[0] = max(peak[0], sum(_private(one) for one in _family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, errors = process.communicate()
    watching.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{errors[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.perf_counter() - start
    return output, {"cpu s": round(cpu, 2), "wall s": round(wall, 2), "peak GB": round(peak[0] / 2**30, 2)}


def _family(pid: int) -> Iterator[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        yield parent
        yield from parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def _private(process: psutil.Process) -> int:
    """What a process holds for itself: mapped files are the system's."""
    try:
        memory = process.memory_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(memory.rss - memory.shared)


def run_ours(source: Path, truth: Truth, work: Path, workers: int, runner: str) -> dict[str, Any]:
    """Our step, judged by its table of clusters."""
    import pyarrow.parquet as pq

    _, cost = measured([sys.executable, __file__, "--child", "ours", str(source), str(work), str(workers), runner])
    table = pq.read_table(work / "out" / "clusters.parquet", columns=["id", "cluster", "kind"])
    kinds = table["kind"].cast("string").to_pylist()
    ids = table["id"].to_pylist()
    removed = {id_ for id_, kind in zip(ids, kinds, strict=True) if kind != "kept"}
    return {**cost, **truth.judge(dict(zip(ids, table["cluster"].to_pylist(), strict=True)), removed)}


def run_peer(name: str, source: Path, truth: Truth, work: Path, workers: int) -> dict[str, Any]:
    """A peer, in an environment of its own."""
    script, packages = PEERS[name]
    folder = work / f"venv-{name}"
    venv.create(folder, with_pip=True)
    installed = subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        return {"not installed": installed.stderr.strip().splitlines()[-1]}
    program = work / f"run_{name}.py"
    program.write_text(script)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "HF_DATASETS_CACHE": str(work / "cache")}
    out = work / name
    out.mkdir()
    command = [str(folder / "bin" / "python"), str(program), str(source), str(out), str(workers)]
    try:
        _, cost = measured(command, environment)
    except SystemExit as error:
        return {"failed": str(error)}
    kept = set(json.loads((out / "kept.json").read_text()))
    return {**cost, **truth.judge({}, set(truth.rows) - kept)}


def main() -> None:
    """Generate, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peer-rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runner", default="local", choices=["local", "ray"])
    parser.add_argument("--increment", type=int, default=30_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        name, *values = chosen.child
        if name == "ours":
            ours(values[0], values[1], int(values[2]), values[3])
        else:
            increment(values[0], values[1], values[2], int(values[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = work / "rows.jsonl"
        truth = generate(source, chosen.rows, chosen.seed, "a")
        _report("ours", chosen.rows, own := run_ours(source, truth, work, chosen.workers, chosen.runner))
        if chosen.increment:
            new = work / "new.jsonl"
            generate(new, chosen.increment, chosen.seed + 1, "b")
            child = [sys.executable, __file__, "--child", "increment", str(source), str(new), str(work)]
            output, _ = measured([*child, str(chosen.workers)])
            print(f"increment of {chosen.increment:,} rows on {chosen.rows:,}: {output.strip()}", flush=True)
        peers = [name for name in chosen.peers.split(",") if name]
        if peers:
            source = work / "peer_rows.jsonl"
            truth = generate(source, chosen.peer_rows, chosen.seed, "a", text_field=True)
            _report("ours", chosen.peer_rows, own := run_ours(source, truth, work, chosen.workers, chosen.runner))
        for name in peers:
            result = run_peer(name, source, truth, work, chosen.workers)
            _report(name, chosen.peer_rows, result)
            if "cpu s" in result:
                print(f"{name} takes {result['cpu s'] / own['cpu s']:.1f} times our CPU time", flush=True)


def _report(name: str, rows: int, result: dict[str, Any]) -> None:
    speed = f"{rows / result['cpu s']:,.0f} rows per CPU second" if "cpu s" in result else "no figure"
    print(f"{name}: {rows:,} rows, {speed}\n{json.dumps(result, indent=1, ensure_ascii=False)}", flush=True)


if __name__ == "__main__":
    main()
