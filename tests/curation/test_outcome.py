import pickle
from collections import Counter

import pytest

from medllm_ops.curation.outcome import Outcome


def test_a_dropped_row_has_a_reason_and_a_kept_one_has_none() -> None:
    assert Outcome(row={"id": "a"}).kept
    assert not Outcome.drop("too short", "3 characters").kept
    with pytest.raises(ValueError, match="without a reason"):
        Outcome(row=None)
    with pytest.raises(ValueError, match="without a reason"):
        Outcome(row={"id": "a"}, reason="too short")


def test_an_outcome_travels_between_processes() -> None:
    outcome = Outcome(row={"id": "a"}, marks=Counter({"unicode.zero_width": 3}))
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert Outcome.drop("too short").marks == Counter()
