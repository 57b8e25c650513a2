from __future__ import annotations

import pytest
from pydantic import ValidationError

from medllm_ops.curation.scrub import KINDS, ScrubSettings


def test_every_field_is_described() -> None:
    assert all(field.description for field in ScrubSettings.model_fields.values())
    assert ScrubSettings().kinds == KINDS


@pytest.mark.parametrize(
    "wrong",
    [{"kind": ("PHONE",)}, {"kinds": ("FACE",)}, {"max_scrubbed_share": 0}, {"review_context": -1}, {"keep": 5}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ScrubSettings.model_validate(wrong)
