"""``DatasetBuildOperator`` and ``DataReportOperator``: the corpus into a frozen dataset, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from medllm_ops.operators.refresh import dataset_asset

DATASETS = AssetAlias("medllm_datasets")
"""Stands for whichever dataset a task reported on."""


class DatasetBuildOperator(BaseOperator):
    """Builds the next version of a dataset from the corpus; of the same as before, it is the same version again.

    Returns ``{"dataset", "name", "version", "directory", "previous", "rows": {source: {side: rows}}}``; ``previous`` is
    the folder of the version before, or None.

    :param name: the dataset's name. (templated)
    :param corpus: the corpus's address; ``MEDLLM_HOME/corpus`` by default. (templated)
    :param version: of the corpus: a number or a tag; the latest by default. (templated)
    :param sources: those to take; all by default. (templated)
    :param curation: a file with the settings of curation that differ from the defaults. (templated)
    :param evalsets: files of what models will be evaluated on. (templated)
    :param allow_licences: sources that stop nothing, whatever the licences of their records are. (templated)
    """

    template_fields: Sequence[str] = ("name", "corpus", "version", "sources", "curation", "evalsets", "allow_licences")

    def __init__(
        self,
        *,
        name: str,
        corpus: str | None = None,
        version: str | int | None = None,
        sources: Sequence[str] | str | None = None,
        curation: str | None = None,
        evalsets: Sequence[str] | str | None = None,
        allow_licences: Sequence[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.corpus = corpus
        self.version = version
        self.sources = sources
        self.curation = curation
        self.evalsets = evalsets
        self.allow_licences = allow_licences

    def execute(self, context: Context) -> dict[str, Any]:
        """Build, and return what was built."""
        from medllm_ops.curation.settings import read_settings
        from medllm_ops.curation.workers import cores
        from medllm_ops.datasets.build import build_dataset
        from medllm_ops.datasets.store import folder_of

        dataset = build_dataset(
            self.name,
            corpus=self.corpus or None,
            version=self.version or None,
            sources=self.sources or None,
            settings=read_settings(Path(self.curation).expanduser() if self.curation else None),
            evalsets=[Path(path).expanduser() for path in self.evalsets or ()],
            workers=cores(),
            allow_licences=self.allow_licences or (),
        )
        previous = folder_of(dataset.name) / str(dataset.version - 1)
        rows = {
            source: {side: figures[side] for side in ("train", "val")}
            for source, figures in dataset.manifest["sources"].items()
        }
        self.log.info("%s: %s", dataset, rows)
        return {
            "dataset": str(dataset),
            "name": dataset.name,
            "version": dataset.version,
            "directory": str(dataset.directory),
            "previous": str(previous) if previous.is_dir() else None,
            "rows": rows,
        }


class DataReportOperator(BaseOperator):
    """Writes the data report of a dataset that was built, and publishes the asset ``dataset_<name>`` if it is good.

    Returns ``{"report", "level"}``. Fails if the report says that something is wrong. A dataset that was reported on
    before is no news: the task is skipped then, and no asset changes.

    :param built: what :class:`DatasetBuildOperator` returned. (templated)
    """

    template_fields: Sequence[str] = ("built",)

    def __init__(self, *, built: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[DATASETS], **kwargs)
        self.built = built

    def execute(self, context: Context) -> dict[str, Any]:
        """Report, and return the verdict."""
        from medllm_ops.datasets.store import REPORT
        from medllm_ops.errors import MedllmError
        from medllm_ops.report.data.build import PAGE_FILE, REPORT_FILE, build_data_report
        from medllm_ops.report.data.model import DataReport

        folder = Path(self.built["directory"])
        is_known = (folder / REPORT / PAGE_FILE).is_file()
        previous = self.built["previous"]
        page = build_data_report(folder, Path(previous) if previous else None)
        report = DataReport.read_file(page.with_name(REPORT_FILE))
        for finding in report.findings:
            self.log.info("%s: %s", finding.level, finding.sentence)
        if report.level == "wrong":
            wrong = "; ".join(finding.sentence for finding in report.findings if finding.level == "wrong")
            raise MedllmError(f"dataset {self.built['dataset']}: {wrong}; see {page}")
        if is_known:
            raise AirflowSkipException(f"dataset {self.built['dataset']} was built before: nothing is new")
        asset = dataset_asset(self.built["name"])
        context["outlet_events"][DATASETS].add(asset, extra={"directory": str(folder), "rows": self.built["rows"]})
        return {"report": str(page), "level": report.level}
