"""What a training is to do: handed over as a file, and the source of its key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from medllm_ops.files import file_hash, text_hash, to_json_line
from medllm_ops.swift.recipe import PreferenceRecipe, StageRecipe

_END_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train.

    :param stage: the stage's name in the chain; ``pretrain`` runs ``swift pt``, ``dpo`` ``swift rlhf``,
        the others ``swift sft``.
    :param recipe: the validated settings of the stage.
    :param model_dir: the absolute folder of the model to start from.
    :param train_files: JSON lines in the ms-swift format; ``val_files`` likewise, for the losses on the way.
    :param directory: the stage's own: its job, its output and its ``result.json``.
    :param tokens: the tokens in ``train_files``, for the speed.
    """

    stage: str
    recipe: StageRecipe
    model_dir: Path
    model_type: str | None
    template: str | None
    train_files: tuple[Path, ...]
    val_files: tuple[Path, ...]
    directory: Path
    torch_dtype: str | None = None
    system: str | None = None
    tokens: int = 0

    def to_row(self) -> dict[str, Any]:
        """As JSON, for the process that trains."""
        return {
            "stage": self.stage,
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
            "model_dir": str(self.model_dir),
            "model_type": self.model_type,
            "template": self.template,
            "train_files": [str(path) for path in self.train_files],
            "val_files": [str(path) for path in self.val_files],
            "directory": str(self.directory),
            "torch_dtype": self.torch_dtype,
            "system": self.system,
            "tokens": self.tokens,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> TrainRequest:
        """Read back what :meth:`to_row` made."""
        paths = {name: Path(row[name]) for name in ("model_dir", "directory")}
        files = {name: tuple(Path(path) for path in row[name]) for name in ("train_files", "val_files")}
        kind = PreferenceRecipe if row["stage"] == "dpo" else StageRecipe
        return cls(**{**row, **paths, **files, "recipe": kind.model_validate(row["recipe"])})

    @property
    def output_dir(self) -> Path:
        """Where ms-swift writes its checkpoints and logs."""
        return self.directory / "output"

    @property
    def attempts_file(self) -> Path:
        """What each attempt did and why it ended; see :class:`medllm_ops.swift.attempts.Attempt`."""
        return self.directory / "attempts.json"

    def key(self) -> str:
        """A hash of everything that decides the result: settings, model and data, wherever they lie."""
        files = [file_hash(path) for path in (*self.train_files, *self.val_files)]
        model = [file_hash(self.model_dir / "config.json")]
        weights = [(path.name, _ends_hash(path)) for path in sorted(self.model_dir.glob("*.safetensors"))]
        # A model that was merged anew has another proof.
        proof = self.model_dir / "merge.json"
        model += [file_hash(proof)] if proof.is_file() else []
        settings = [
            self.stage,
            self.recipe.model_dump(mode="json"),
            self.model_type,
            self.template,
            self.torch_dtype,
            self.system,
        ]
        return text_hash(to_json_line([settings, model, weights, files]).decode())


def _ends_hash(path: Path) -> str:
    """A hash of a file's size, its first and its last bytes: what other weights do not share.

    Whole, those of a large model would be read for minutes at each try of its task.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(_END_BYTES)
        file.seek(max(len(ends), size - _END_BYTES))
        ends += file.read()
    return xxhash.xxh3_128_hexdigest(b"%d:%b" % (size, ends))
