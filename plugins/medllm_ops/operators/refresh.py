"""``CorpusRefreshOperator``: what is new at a source's publisher into the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Asset, AssetAlias, AssetAny, BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException


def corpus_asset(source: str) -> Asset:
    """The asset that stands for what the corpus has of a source."""
    return Asset(name=f"corpus_{source}", group="medllm_corpus")


def dataset_asset(name: str) -> Asset:
    """The asset that stands for the newest version of a dataset."""
    return Asset(name=f"dataset_{name}", group="medllm_dataset")


DATASET_PREFIX = "dataset:"


def assets_of(names: str) -> AssetAny | None:
    """Any of these assets, given with commas between them: sources, and ``dataset:NAME``; ``None`` for none."""
    assets = [
        dataset_asset(name.removeprefix(DATASET_PREFIX)) if name.startswith(DATASET_PREFIX) else corpus_asset(name)
        for name in (part.strip() for part in names.split(","))
        if name
    ]
    return AssetAny(*assets) if assets else None


def newest_of(names: str) -> dict[str, str]:
    """What a run takes by default that one of these assets started: the first dataset among them, or the corpus."""
    parts = [part.strip() for part in names.split(",") if part.strip()]
    datasets = [name.removeprefix(DATASET_PREFIX) for name in parts if name.startswith(DATASET_PREFIX)]
    if datasets:
        return {"dataset": datasets[0]}
    return {"corpus": "latest"} if parts else {}


CORPUS = AssetAlias("medllm_corpus")
"""Stands for whichever source a task refreshed."""


class CorpusRefreshOperator(BaseOperator):
    """Fetches, keeps, parses and applies what is new, raw file by raw file; repeated, it goes on where it stopped.

    Returns small JSON: raw files, items, how many records were added, changed, deleted, retracted, rejected, and the
    corpus version; what each raw file did is in the log. The same JSON goes with the event of the asset
    ``corpus_<source>``. Where nothing is new, the task is skipped and no asset changes, so that nothing downstream is
    made again for nothing.

    :param source: the name of the source, such as ``pubmed``. (templated)
    :param settings: of its fetcher, where they differ from its catalogue entry; empty values are left out. (templated)
    :param corpus: the corpus's address; ``MEDLLM_HOME/corpus`` by default. (templated)
    :param keep_raw: keep the raw files; as the catalogue entry says by default. (templated)
    :param wait: seconds to wait for another refresh of the source to end.
    """

    template_fields: Sequence[str] = ("source", "settings", "corpus", "keep_raw")

    def __init__(
        self,
        *,
        source: str,
        settings: dict[str, Any] | None = None,
        corpus: str | None = None,
        keep_raw: bool | None = None,
        wait: float = 3600,
        **kwargs: Any,
    ) -> None:
        # A source that is chosen in the form is known only when the task runs.
        self.outlet = CORPUS if "{{" in source else corpus_asset(source)
        super().__init__(outlets=[self.outlet], **kwargs)
        self.source = source
        self.settings = settings or {}
        self.corpus = corpus
        self.keep_raw = keep_raw
        self.wait = wait

    def execute(self, context: Context) -> dict[str, Any]:
        """Refresh, and return the summary."""
        from medllm_ops.refresh.refresh import refresh_source

        changes = {name: value for name, value in self.settings.items() if value not in (None, "")}
        refreshed = refresh_source(
            self.source, changes, corpus=self.corpus or None, keep_raw=self.keep_raw, wait=self.wait
        )
        summary = refreshed.summary()
        self.log.info("summary: %s", summary)
        if not refreshed.files:
            raise AirflowSkipException(f"nothing is new at {self.source}")
        if isinstance(self.outlet, AssetAlias):
            context["outlet_events"][self.outlet].add(corpus_asset(self.source), extra=summary)
        else:
            context["outlet_events"][self.outlet].extra = summary
        return summary
