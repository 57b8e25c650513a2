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
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, measured
from planted_rows import Truth, generate

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
        before, start = cpu_seconds(), time.perf_counter()
        deduplicate({"a": Path(path)}, Path(work) / f"out{number}", settings, known=known, worker_count=workers)
        spent.append({"cpu s": round(cpu_seconds() - before, 2), "wall s": round(time.perf_counter() - start, 2)})
    size = sum(path.stat().st_size for path in (Path(work) / "signatures").rglob("*") if path.is_file())
    print(json.dumps({"all rows": spent[0], "new rows": spent[1], "signatures MB": size >> 20}))


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
