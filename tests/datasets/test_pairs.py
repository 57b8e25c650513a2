import pytest

from medllm_ops.datasets.pairs import both_answers, labelled, pairs_of
from medllm_ops.errors import MedllmError

ASKED = {"role": "user", "content": "q"}
PAIR = {"id": "p", "messages": [ASKED, {"role": "assistant", "content": "good"}], "rejected_response": "bad"}


def test_a_pair_is_two_dialogues_that_differ_in_their_last_turn() -> None:
    better, worse = both_answers(PAIR)
    assert better == {"id": "p", "messages": PAIR["messages"]}
    assert worse == {"id": "p", "messages": [ASKED, {"role": "assistant", "content": "bad"}]}


def test_pairs_come_back_from_either_form() -> None:
    other = {**PAIR, "id": "o", "rejected_response": "worse"}
    assert list(pairs_of([PAIR, other])) == [PAIR, other]
    assert list(pairs_of([*labelled(PAIR), *labelled(other)])) == [PAIR, other]


@pytest.mark.parametrize("kept", [[0], [1], [0, 0], [1, 0], [0, 1, 0]])
def test_half_a_pair_is_named(kept: list[int]) -> None:
    halves = labelled(PAIR)
    with pytest.raises(MedllmError, match="row p is one half of a pair"):
        list(pairs_of(halves[number] for number in kept))
