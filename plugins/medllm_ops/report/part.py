"""What all parts of a report, and the figures in them, have in common."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite_or_none(value: Any) -> Any:
    """JSON has no NaN: a figure that is not finite is a figure that is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


# A measured figure; None where there is none, or where it was NaN or infinite.
Figure: TypeAlias = Annotated[float | None, BeforeValidator(_finite_or_none)]


class Part(BaseModel):
    """A part of the report: no unknown key, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)
