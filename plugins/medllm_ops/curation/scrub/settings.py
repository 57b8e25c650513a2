"""The settings of scrubbing: the section ``scrub`` of ``include/datasets/curation.yaml``."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.curation.scrub.finding import KINDS, Kind


class ScrubSettings(BaseModel):
    """What is looked for, what stays, and what is written down for review."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Kind, ...] = Field(default=KINDS, description="The kinds of personal data that are replaced.")
    presidio: bool = Field(
        default=True,
        description="Also ask presidio for IBANs and American social security numbers without a label; needs "
        "presidio-analyzer, and memory for it once a number of that shape turns up.",
    )
    keep: tuple[str, ...] = Field(
        default=(),
        description="Values that are never replaced, written exactly so: a public hotline, a publisher's address.",
    )
    # No paper sets this one: a record that is half marks is a list of contacts, and teaches a model to write marks.
    max_scrubbed_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="A record of whose characters a larger share was replaced is dropped; 1: none.",
    )
    review_context: int = Field(
        default=30, ge=0, le=200, description="Characters on each side of a mark that a reviewer sees, digits hidden."
    )


EVERYTHING: Final = ScrubSettings(presidio=False)
"""For texts that a person is shown, whatever the settings of the dataset say."""
