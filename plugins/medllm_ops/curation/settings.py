"""All settings of curation: ``include/datasets/curation.yaml`` has each with its default and says what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medllm_ops.curation.clean.settings import CleanSettings
from medllm_ops.curation.duplicates.settings import DuplicateSettings
from medllm_ops.curation.overlap import DecontaminationSettings
from medllm_ops.curation.scrub.settings import ScrubSettings
from medllm_ops.errors import MedllmError
from medllm_ops.yaml_file import problems_in_words, read_yaml

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
ValShare: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
TooLong: TypeAlias = Literal["shorten", "reject"]

STEPS: Final = (
    "read",
    "clean",
    "scrub",
    "exact dedup",
    "near dedup",
    "decontaminate",
    "split",
    "sample",
    "chunk",
)
"""The steps, in order, as the ledger and ``removed.jsonl`` name them."""

_DRAW: Final = re.compile(r"(?P<name>[^#]+)#(?P<count>[0-9]+)")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CleanSection(CleanSettings):
    """The section ``clean``."""

    enabled: bool = Field(default=True, description="false: texts stay as they are, and no row goes.")


class ScrubSection(ScrubSettings):
    """The section ``scrub``."""

    enabled: bool = Field(default=True, description="false: personal data stays.")


class SplitSettings(_Settings):
    """How many rows validate."""

    # The 2024 recipe: dataset_test_ratio 0.1.
    val_share: ValShare = Field(default=0.1, description="The share of a set's clusters that go to validation.")


class SampleSettings(_Settings):
    """How many rows of each set are drawn; with neither ``total`` nor a count, all of them."""

    total: int | None = Field(default=None, ge=1, description="Rows of all sets together, both sides.")
    draw: tuple[str, ...] = Field(
        default=(), description="Counts in ms-swift's words, NAME#N: so many rows of a set, both sides."
    )
    # Conneau et al. 2020 (XLM-R, arXiv:1911.02116, section 3.1) draw with the power of 0.3, a temperature of 3.3.
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="A set's part of total goes with its weight to the power of 1 / temperature: 1 as it is, higher "
        "ones bring the sets closer together.",
    )
    max_repeats: int = Field(
        default=1, ge=1, le=100, description="How often a row may be drawn where a set has too few; 1: once."
    )

    @field_validator("draw")
    @classmethod
    def _reads(cls, draw: tuple[str, ...]) -> tuple[str, ...]:
        names = []
        for text in draw:
            match = _DRAW.fullmatch(text)
            if not match or not int(match["count"]):
                raise ValueError(f"{text!r} is not NAME#N, such as pubmed#5000")
            if int(match["count"]) == 1:
                raise ValueError(f"{text!r} is fewer than a row on each side")
            names.append(match["name"])
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is drawn twice")
        return draw

    @property
    def drawn(self) -> dict[str, int]:
        """The count of each set in ``draw``."""
        parts = [text.partition("#") for text in self.draw]
        return {name: int(count) for name, _, count in parts}


class ChunkSettings(_Settings):
    """How rows come to fit the model, so that ms-swift deletes none."""

    tokenizer: str | None = Field(
        default=None,
        description="The folder of the model, or of its tokenizer; left out: rows keep their length.",
    )
    max_tokens: int = Field(default=2048, ge=16, description="The max_length of the training, the template included.")
    overhead: int = Field(
        default=32, ge=0, description="Tokens that the template adds to a row besides those of each turn."
    )
    turn_overhead: int = Field(default=8, ge=0, description="Tokens that the template adds to each turn.")
    dialogues: TooLong = Field(
        default="shorten",
        description="Dialogues too long: shorten leaves the earliest exchanges out, reject the whole dialogue.",
    )

    @model_validator(mode="after")
    def _leaves_room(self) -> ChunkSettings:
        if self.overhead + self.turn_overhead >= self.max_tokens:
            raise ValueError(f"max_tokens ({self.max_tokens}) leave no room beside the template's overhead")
        return self


class SetSettings(_Settings):
    """Where one set differs."""

    val_share: ValShare | None = Field(default=None, description="In place of split.val_share.")
    count: int | None = Field(default=None, ge=2, description="So many rows of it, both sides.")
    weight: float | None = Field(
        default=None, ge=0, description="Its part of sample.total beside the others' weights; left out: its rows."
    )
    max_tokens: int | None = Field(default=None, ge=16, description="In place of chunk.max_tokens.")
    dialogues: TooLong | None = Field(default=None, description="In place of chunk.dialogues.")

    @model_validator(mode="after")
    def _one_of_both(self) -> SetSettings:
        if self.count is not None and self.weight is not None:
            raise ValueError("give a count or a weight, not both")
        return self


class LicenceSettings(_Settings):
    """Which licences stop the build. A licence is compared as it is written, without regard to case."""

    deny: tuple[str, ...] = Field(
        default=(), description="Names or addresses of licences; * stands for anything, such as *-NC-*."
    )
    unknown: Literal["keep", "stop"] | None = Field(
        default=None,
        description="What rows without any licence do: keep or stop; left out: they stop the build of a dataset from "
        "the corpus, and are kept where files are curated.",
    )
    allow: tuple[str, ...] = Field(default=(), description="Names of sources that stop nothing, whatever theirs is.")


class DropLimits(_Settings):
    """The largest share of its rows that a step may drop; beyond, curation stops and names the reasons. 1: all."""

    read: Share = Field(default=1, description="Lines that are no records, and retracted rows.")
    clean: Share = Field(default=1, description="Rows without usable text.")
    scrub: Share = Field(default=1, description="Rows that are mostly personal data.")
    exact_dedup: Share = Field(default=1, description="Exact duplicates.")
    near_dedup: Share = Field(default=1, description="Near duplicates.")
    decontaminate: Share = Field(default=1, description="Overlaps with evaluation sets.")
    split: Share = Field(default=1, description="Rows that stand on no side.")
    chunk: Share = Field(default=1, description="Rows too long that cannot be cut.")

    def of(self, step: str) -> float:
        """The limit of a step of :data:`STEPS`; a sample drops what it is told to."""
        return float(getattr(self, step.replace(" ", "_"), 1))


class CurationSettings(_Settings):
    """All settings of curation."""

    seed: int = Field(default=42, ge=0, lt=2**32, description="Of the order of rows, of samples, of what is reviewed.")
    clean: CleanSection = CleanSection()
    scrub: ScrubSection = ScrubSection()
    duplicates: DuplicateSettings = DuplicateSettings()
    decontaminate: DecontaminationSettings = DecontaminationSettings()
    split: SplitSettings = SplitSettings()
    sample: SampleSettings = SampleSettings()
    chunk: ChunkSettings = ChunkSettings()
    sets: dict[str, SetSettings] = Field(default={}, description="Settings of single sets, by the name of the source.")
    licences: LicenceSettings = LicenceSettings()
    max_dropped_share: DropLimits = DropLimits()

    @model_validator(mode="after")
    def _agree(self) -> CurationSettings:
        counts = self._own("count") | self._own("weight")
        if twice := sorted(set(self.sample.drawn) & set(counts)):
            raise ValueError(f"{twice[0]} stands in sample.draw and has a count or a weight in sets, too")
        for name in self.sets:
            if self.max_tokens(name) <= self.chunk.overhead + self.chunk.turn_overhead:
                raise ValueError(f"sets.{name}: max_tokens leave no room beside the template's overhead")
        return self

    def _own(self, field: str) -> dict[str, Any]:
        values = {name: getattr(own, field) for name, own in self.sets.items()}
        return {name: value for name, value in values.items() if value is not None}

    def val_share(self, name: str) -> float:
        """The share of a set's clusters for validation."""
        return float(self._own("val_share").get(name, self.split.val_share))

    def max_tokens(self, name: str) -> int:
        """The most tokens of a row of a set, the template's included."""
        return int(self._own("max_tokens").get(name, self.chunk.max_tokens))

    def dialogues(self, name: str) -> TooLong:
        """What is done with dialogues of a set that are too long."""
        chosen: TooLong = self._own("dialogues").get(name, self.chunk.dialogues)
        return chosen

    @property
    def counts(self) -> dict[str, int]:
        """The rows to draw of each set that names a number."""
        return {**self._own("count"), **self.sample.drawn}

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each set that names one."""
        return self._own("weight")


def check_settings(values: Mapping[str, Any], where: str) -> CurationSettings:
    """Settings from plain values; what is left out, within a section too, is the default.

    :param where: what the values are, for the error.
    :raises MedllmError: naming each field that is wrong.
    """
    try:
        return CurationSettings.model_validate(_over(CurationSettings(), values))
    except ValidationError as error:
        raise MedllmError(f"{where}: {problems_in_words(error, CurationSettings)}") from error


def read_settings(path: Path | None = None) -> CurationSettings:
    """The settings of a file; what is not written there, and all without a file, is the default.

    :raises MedllmError: naming the file and each field that is wrong.
    """
    if path is None:
        return CurationSettings()
    where = f"settings {path}"
    try:
        values = read_yaml(path)
    except OSError as error:
        raise MedllmError(f"{where} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedllmError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return CurationSettings()
    if not isinstance(values, dict):
        raise MedllmError(f"{where} is not a mapping")
    return check_settings(values, where)


def _over(defaults: BaseModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values, each section of which is completed with its own defaults.

    Pydantic would take those of the section's class: for answers, those of documents. A section of which every line is
    commented out is null.
    """
    told = {}
    for name, value in values.items():
        default = getattr(defaults, name) if name in type(defaults).model_fields else None
        if value is None and isinstance(default, BaseModel | dict):
            continue
        if isinstance(default, BaseModel) and isinstance(value, Mapping):
            value = {**default.model_dump(), **_over(default, value)}
        told[name] = value
    return told
