"""Check digits: what tells an identity number or a card from any other row of digits."""

from __future__ import annotations

import unicodedata

# GB/T 2260, the first two digits: provinces, and 81 to 83 for residents of Hong Kong, Macao and Taiwan.
_PROVINCES = frozenset(
    str(number)
    for low, high in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83))
    for number in range(low, high + 1)
)
_WEIGHTS = [2 ** (17 - place) % 11 for place in range(17)]
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def ascii_digits(value: str) -> str:
    """The digits of a value as ASCII, and its letters in capitals; everything else left out."""
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character.upper()
        for character in unicodedata.normalize("NFKC", value)
        if character.isdecimal() or (character.isascii() and character.isalpha())
    )


def resident_identity(number: str) -> bool:
    """Whether 18 characters are a Chinese identity number: GB 11643, its check digit ISO 7064 MOD 11-2."""
    if len(number) != 18 or not number[:17].isdigit() or not _born(number[:2], number[6:14]):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False))
    return number[17] == "10X98765432"[total % 11]


def _born(province: str, date: str) -> bool:
    year, month, day = int(date[:4]), int(date[4:6]), int(date[6:])
    return province in _PROVINCES and 1890 <= year <= 2040 and 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]


def luhn(number: str) -> bool:
    """Whether the last digit is right by ISO/IEC 7812-1, Annex B: payment cards."""
    if not (number.isascii() and number.isdigit()):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0


def hong_kong_identity(number: str) -> bool:
    """Whether a letter or two, six digits and a check digit (or A) are a Hong Kong identity number."""
    letters, digits = number[:-7], number[-7:]
    if (
        len(letters) not in (1, 2)
        or not letters.isalpha()
        or not digits[:6].isdigit()
        or digits[6] not in "0123456789A"
    ):
        return False
    values = [36] * (2 - len(letters)) + [ord(letter) - 55 for letter in letters]
    values += [int(digit) for digit in digits[:6]] + [10 if digits[6] == "A" else int(digits[6])]
    return sum(value * weight for value, weight in zip(values, range(9, 0, -1), strict=True)) % 11 == 0
