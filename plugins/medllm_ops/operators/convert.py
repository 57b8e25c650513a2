"""``DatasetConvertOperator``: raw files of one source to records in the ms-swift format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context


class DatasetConvertOperator(BaseOperator):
    """Converts raw files of one source to ``records.jsonl``, ``rejects.jsonl`` and ``ledger.json``.

    Returns ``{"directory", "step", "in", "out", "dropped"}``; fails if the ledger does not balance, or if not one
    good record came out.

    :param source: the name of the source, such as ``pubmed``. (templated)
    :param files: paths of its raw files, in order; a single one may be given as it is. (templated)
    :param output_dir: the folder to make, whole or not at all. (templated)
    :param sample: the most records to keep, drawn by a stable hash; 0 keeps all. (templated)
    """

    template_fields: Sequence[str] = ("source", "files", "output_dir", "sample")

    def __init__(
        self,
        *,
        source: str,
        files: str | Sequence[str],
        output_dir: str,
        sample: int | str = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.files = files
        self.output_dir = output_dir
        self.sample = sample

    def execute(self, context: Context) -> dict[str, Any]:
        """Convert, and return the ledger."""
        from medllm_ops.datasets.convert import convert_source

        files = [self.files] if isinstance(self.files, str) else self.files
        result = convert_source(self.source, files, self.output_dir, int(self.sample))
        self.log.info("%s: %d in, %d out, dropped %s", self.source, result["in"], result["out"], result["dropped"])
        return result
