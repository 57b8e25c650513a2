from __future__ import annotations

import random

import pytest

from medllm_ops.curation.scrub.check_digits import (
    ascii_digits,
    hong_kong_identity,
    luhn,
    resident_identity,
)


def test_the_example_of_the_standard() -> None:
    # GB 11643-1999 prints this number as its example.
    assert resident_identity("11010519491231002X")
    assert not resident_identity("110105194912310021")


def test_exactly_one_check_digit_fits_and_any_digit_that_is_mistyped_is_seen() -> None:
    chance = random.Random(7)
    for _ in range(50):
        day = f"{chance.randint(1930, 2015)}0{chance.randint(1, 9)}1{chance.randint(0, 9)}"
        stem = f"110199{day}{chance.randint(0, 999):03}"
        fitting = [digit for digit in "0123456789X" if resident_identity(stem + digit)]
        assert len(fitting) == 1
        place = chance.randrange(14, 17)
        mistyped = stem[:place] + str((int(stem[place]) + chance.randint(1, 9)) % 10) + stem[place + 1 :]
        assert not resident_identity(mistyped + fitting[0])


@pytest.mark.parametrize(
    "number",
    [
        "",
        "11010519491231002",
        "1101051949123100XX",
        "110105194913310027",
        "110105194902300021",
        "990105194912310028",
        "１" * 18,
    ],
)
def test_no_identity_numbers(number: str) -> None:
    assert not resident_identity(number)


def test_cards() -> None:
    assert luhn("4111111111111111")
    assert luhn("79927398713")
    assert not luhn("4111111111111112")
    assert not luhn("")
    assert not luhn("4111 1111")


def test_hong_kong_numbers() -> None:
    assert hong_kong_identity("A1234563")
    assert hong_kong_identity("AB9876543")
    assert not hong_kong_identity("A1234564")
    assert not hong_kong_identity("1234563")


def test_digits_of_any_width() -> None:
    assert ascii_digits("１１０ 105-x（3）") == "110105X3"
