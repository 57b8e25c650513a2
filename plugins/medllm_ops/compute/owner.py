"""Which Airflow task asked for a job: what the job's id is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from medllm_ops.files import text_hash, to_json_line


@dataclass(frozen=True, slots=True)
class TaskOwner:
    """One task of one DAG run, whatever the number of its try.

    :param map_index: -1 for a task that is not mapped.
    :param generation: another number after each time that a user cleared the task; a retry does not change it.
    """

    dag: str
    run: str
    task: str
    map_index: int
    generation: int

    def job_id(self, key: str) -> str:
        """The id of this task's job with a configuration: the same on every try."""
        return f"{self.task}-{text_hash(to_json_line([*asdict(self).values(), key]).decode())[:16]}"

    def cleared_since(self, earlier: TaskOwner | None) -> bool:
        """Whether this is the same task after a user cleared it."""
        return earlier is not None and self.same_task(earlier) and earlier.generation != self.generation

    def same_task(self, other: TaskOwner) -> bool:
        """Whether it is the same task of the same run, in any generation."""
        return (self.dag, self.run, self.task, self.map_index) == (other.dag, other.run, other.task, other.map_index)

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag} / {self.run} / {self.task}{mapped}"

    def to_row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
