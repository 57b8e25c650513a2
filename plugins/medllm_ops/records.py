"""What flows through the house: records, rejects and the ledger that counts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from medllm_ops.errors import LedgerError

EXCERPT_CHARACTERS = 200

Role: TypeAlias = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue, in the roles that ms-swift knows."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text for continued pretraining.

    ``id`` is ``<source>:<identifier>`` and is the same for the same publication in every file and every year.
    ``language`` is the ISO 639-1 code of the *text* (``en``, ``zh``, …), or the 639-2 code where there is none.
    ``version`` orders several states of the same id; a higher one, or a later one of the same version, wins.
    """

    id: str
    source: str
    language: str
    title: str
    text: str
    url: str = ""
    licence: str = ""
    version: int = 1
    retracted: bool = False

    @property
    def messages(self) -> tuple[Message, ...]:
        """The document as ms-swift's pretraining row: one assistant turn."""
        return (Message("assistant", self.text),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """A conversation for instruction tuning; it ends on the assistant's turn."""

    id: str
    source: str
    language: str
    messages: tuple[Message, ...]
    title: str = ""
    url: str = ""
    licence: str = ""
    version: int = 1
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A conversation with a better last turn (in ``messages``) and a worse one, for alignment."""

    id: str
    source: str
    language: str
    messages: tuple[Message, ...]
    rejected_response: str
    title: str = ""
    url: str = ""
    licence: str = ""
    version: int = 1
    retracted: bool = False


Record: TypeAlias = Document | Dialogue | Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The publisher withdrew a record: whatever came before under this id is out."""

    id: str
    file: str
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """What could not become a record.

    ``reason`` is one of a few fixed phrases, so that it can be counted (``"no abstract"``); what is particular
    to this one (a parser's message, a length) goes into ``detail``. ``position`` says where in the file:
    ``"record 12"``, ``"line 7"``, ``"chapter 3"``. ``withdraws`` is the version of a record that was read well and has
    nothing to train on: an older state of ``id`` is no longer what its publisher says.
    """

    file: str
    position: str
    reason: str
    detail: str = ""
    id: str | None = None
    excerpt: str = ""
    withdraws: int | None = None

    def to_row(self) -> dict[str, Any]:
        """The line of ``rejects.jsonl``."""
        return {
            "file": writable(self.file),
            "position": writable(self.position),
            "id": self.id and writable(self.id),
            "reason": writable(self.reason),
            "detail": writable(self.detail),
            "excerpt": writable(self.excerpt[:EXCERPT_CHARACTERS]),
        }


def writable(text: str) -> str:
    """The text with a question mark for each lone surrogate: file names and broken escapes bring them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def record_to_row(record: Record) -> dict[str, Any]:
    """The line of ``records.jsonl``; ``messages`` is what ms-swift reads."""
    row: dict[str, Any] = {
        "id": record.id,
        "messages": [{"role": m.role, "content": m.content} for m in record.messages],
        "source": record.source,
        "language": record.language,
        "title": record.title,
        "url": record.url,
        "licence": record.licence,
        "version": record.version,
        "retracted": record.retracted,
    }
    if isinstance(record, Preference):
        row["rejected_response"] = record.rejected_response
    return row


@dataclass(slots=True)
class LedgerEntry:
    """The counts of one step: what came in went out or was dropped for a named reason."""

    step: str
    rows_in: int = 0
    rows_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, rows: int = 1) -> None:
        """Count ``rows`` as dropped for ``reason``."""
        self.dropped[reason] += rows

    def check(self) -> LedgerEntry:
        """Return the entry itself if it balances.

        :raises LedgerError: naming the step, the counts and the reasons.
        """
        if self.rows_in != self.rows_out + self.dropped.total():
            reasons = ", ".join(f"{reason}: {rows}" for reason, rows in sorted(self.dropped.items())) or "none"
            raise LedgerError(
                f"step {self.step} does not balance: {self.rows_in} in, {self.rows_out} out, "
                f"{self.dropped.total()} dropped ({reasons})"
            )
        return self

    def to_row(self) -> dict[str, Any]:
        """The ledger as JSON: ``{"step", "in", "out", "dropped": {reason: rows}}``."""
        return {
            "step": self.step,
            "in": self.rows_in,
            "out": self.rows_out,
            "dropped": dict(sorted(self.dropped.items())),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> LedgerEntry:
        """Read back what :meth:`to_row` wrote."""
        return cls(row["step"], row["in"], row["out"], Counter(row["dropped"]))
