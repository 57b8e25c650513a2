"""The catalogue: a YAML file for each source names its module and says what a person may edit."""

from __future__ import annotations

import dataclasses
import importlib
from collections import Counter
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medllm_ops.errors import MedllmError
from medllm_ops.fetch.base import FetchSettings
from medllm_ops.files import file_hash
from medllm_ops.home import include
from medllm_ops.sources.base import Source
from medllm_ops.yaml_file import problems_in_words, read_yaml

NO_ENTRIES = ("curation.yaml",)
"""Files of the catalogue's folder that hold settings of another kind."""
_GIVEN = ("name", "file")


class Sample(BaseModel):
    """How much of each raw file is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int = Field(default=0, ge=0, description="At most so many records of each raw file; 0: all.")
    seed: int = Field(default=42, ge=0, description="Another seed draws other records.")


class Entry(BaseModel):
    """A source as the catalogue describes it. Its name is that of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    file: Path
    module: str = Field(pattern=r"^\w+(\.\w+)*$", description="The Python module that holds SOURCE, dotted.")
    title: str = Field(min_length=1, description="What it is, in a few words.")
    publisher: str = Field(min_length=1, description="Who publishes it.")
    homepage: str = Field(default="", description="The publisher's page about it.")
    licence: str = Field(min_length=1, description="The name or the address of the licence.")
    licence_covers_rows: bool = Field(
        default=True, description="false: of a row that names no licence of its own, the licence is not known."
    )
    credit: str = Field(default="", description="Whom to name, and how.")
    terms: str = Field(min_length=1, description="What using it obliges to, in a sentence.")
    order: int = Field(description="The chain converts the sources in this order.")
    aliases: tuple[str, ...] = Field(default=(), description="Other names it is called by.")
    settings: dict[str, Any] = Field(default={}, description="Of its fetcher, where they differ from its defaults.")
    sample: Sample = Sample()
    keep_raw: bool = Field(default=True, description="Keep raw files after they are in the corpus.")

    @cached_property
    def source(self) -> Source:
        """The source of its module, which is imported now.

        :raises MedllmError: if there is no such module, it has no ``SOURCE``, or that has another name.
        """
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            raise MedllmError(f"{self._here}: module {self.module} cannot be imported: {error}") from error
        source = getattr(module, "SOURCE", None)
        if not isinstance(source, Source):
            raise MedllmError(f"{self._here}: module {self.module} has no SOURCE; docs/adding_a_source.md tells how")
        if source.name != self.name:
            raise MedllmError(
                f"{self._here}: the SOURCE of {self.module} is named {source.name}; call the file {source.name}.yaml"
            )
        return dataclasses.replace(source, code=file_hash(Path(str(module.__file__))))

    def fetch_settings(self, **changes: Any) -> FetchSettings:
        """The settings of its fetcher: those of the entry, with changes.

        :raises MedllmError: naming each setting that is wrong, and what is allowed.
        """
        model = self.source.settings
        try:
            return model.model_validate({**self.settings, **changes})
        except ValidationError as error:
            wrong = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
            where = f"source {self.name}" if wrong & set(changes) else self._here
            problems = problems_in_words(error, model, "settings")
            raise MedllmError(f"{where}: {problems}") from error

    @property
    def _here(self) -> str:
        return f"catalogue entry {self.file}"


def catalogue() -> tuple[Entry, ...]:
    """The entries of all sources, in the order in which the chain converts them. No module is imported.

    :raises MedllmError: naming the file and each field that is wrong, or that there is no entry at all.
    """
    folder = include() / "datasets"
    files = sorted(path for path in folder.glob("*.yaml") if path.name not in NO_ENTRIES)
    if not files:
        raise MedllmError(f"{folder} has no entry of any source; set MEDLLM_INCLUDE to a folder with datasets/*.yaml")
    return _read(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=4)
def _read(stamps: tuple[tuple[Path, int, int], ...]) -> tuple[Entry, ...]:
    entries = [read_entry(path) for path, _, _ in stamps]
    names = Counter(name for entry in entries for name in (entry.name, *entry.aliases))
    for entry in entries:
        if twice := [name for name in entry.aliases if names[name] > 1]:
            raise MedllmError(f"catalogue entry {entry.file}: aliases: {twice[0]} is the name of another source, too")
    return tuple(sorted(entries, key=lambda entry: (entry.order, entry.name)))


def read_entry(path: Path) -> Entry:
    """Read and validate one entry.

    :raises MedllmError: naming the file and each field that is wrong.
    """
    here = f"catalogue entry {path}"
    try:
        values = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedllmError(f"{here} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise MedllmError(f"{here} is not a mapping")
    if given := [name for name in _GIVEN if name in values]:
        raise MedllmError(f"{here}: leave {given[0]} out: a source is named by the name of its file")
    try:
        return Entry.model_validate({**values, "name": path.stem, "file": path})
    except ValidationError as error:
        raise MedllmError(f"{here}: {problems_in_words(error, Entry, hidden=_GIVEN)}") from error
