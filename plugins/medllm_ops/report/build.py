"""Write the report of a run, and name the last finished run ``latest``."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path

from medllm_ops.errors import MedllmError
from medllm_ops.files import link_to, write_json, write_whole
from medllm_ops.report.collect import collect
from medllm_ops.report.html import render
from medllm_ops.report.model import Report
from medllm_ops.report.verdict import judge
from medllm_ops.run import LATEST

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
_DISTRIBUTIONS = {
    "medllm-ops": "medllm-ops",
    "ms-swift": "ms-swift",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "airflow": "apache-airflow",
}


def build_report(run_dir: Path, versions: Mapping[str, str] | None = None) -> Report:
    """Write ``report.json`` and ``report.html`` into ``run_dir`` from whatever its steps have left, and return it.

    :param versions: of what the run was made with; those of this environment by default.
    :raises MedllmError: if there is no such run, or a file in it is not what its step writes.
    """
    directory = run_dir.resolve()
    collected = collect(directory)
    gates = judge(collected)
    report = Report(
        **{name: getattr(collected.results, name) for name in type(collected.results).model_fields},
        gates=gates,
        passed=all(gate.passed for gate in gates if gate.enforced),
        versions=dict(installed_versions() if versions is None else versions),
    )
    page = render(report)
    write_json(directory / REPORT_FILE, report.to_row())
    with write_whole(directory / PAGE_FILE) as file:
        file.write(page.encode("utf-8"))
    return report


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide a run's result; what is not installed is left out."""
    versions = {"python": platform.python_version()}
    for name, distribution in _DISTRIBUTIONS.items():
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def publish_latest(run_dir: Path) -> Path:
    """Point ``latest``, beside the run, at it; a reader finds the old run or the new one at any instant.

    :return: the symbolic link. It is relative, so that the folder of all runs may be moved.
    :raises MedllmError: if the run has no report yet, or ``latest`` is something else than a link.
    """
    directory = run_dir.resolve()
    link = directory.parent / LATEST
    if missing := [name for name in (REPORT_FILE, PAGE_FILE) if not (directory / name).is_file()]:
        raise MedllmError(f"run {directory.name} is not finished: {directory} has no {' and no '.join(missing)}")
    link_to(link, Path(directory.name))
    return link
