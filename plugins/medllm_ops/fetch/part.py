"""A download on its way in."""

from __future__ import annotations

from pathlib import Path

from medllm_ops.files import read_json, write_json

_GZIP_NAMES = (".gz", ".tgz")


class Part:
    """A half download beside its file, and what the server said the file was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self.is_no_page = path.suffix not in (".html", ".htm")
        self.is_gzip = path.suffix in _GZIP_NAMES

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.file.stat().st_size if self.file.exists() else 0

    @property
    def validator(self) -> str:
        """The ETag or the date of the file that this is the beginning of; empty if the server gave none."""
        return str(read_json(self._note)["validator"]) if self._note.exists() else ""

    def begin(self, validator: str) -> None:
        """Note which file it is the beginning of."""
        write_json(self._note, {"validator": validator})

    def finish(self) -> None:
        """Give the file its name."""
        self.file.replace(self._path)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Begin anew."""
        self.file.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
