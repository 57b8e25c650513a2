"""How many characters of which kind a text has, counted on its UTF-8 bytes: a microsecond for a kilobyte."""

from __future__ import annotations

from dataclasses import dataclass

_ASCII_LETTERS = bytes([*range(0x41, 0x5B), *range(0x61, 0x7B)])
_ASCII_DIGITS = bytes(range(0x30, 0x3A))
_ASCII_SPACE = b" \t\n\r\x0b\x0c"
_TAILS = bytes(range(0x80, 0xC0))
# The first byte of a character tells its block:
_LATIN = bytes(range(0xC3, 0xCA))  # U+00C0 to U+024F, with × and ÷, of which there are few
_GREEK = b"\xce\xcf"
_OTHER = bytes([*range(0xD0, 0xE0), 0xE0])  # Cyrillic to Arabic, then the scripts of India and Thailand
_HAN = bytes(range(0xE4, 0xEA))  # U+4000 to U+9FFF
_HANGUL = bytes(range(0xEA, 0xEE))  # U+A000 to U+DFFF
_RARE = _LATIN + _HANGUL + _GREEK + _OTHER
_KANA_HEADS = (b"\xe3\x81", b"\xe3\x82", b"\xe3\x83")  # U+3040 to U+30FF
_HAN_B = (b"\xf0\xa0", b"\xf0\xa1", b"\xf0\xa2", b"\xf0\xa3", b"\xf0\xa4", b"\xf0\xa5", b"\xf0\xa6", b"\xf0\xa7")


@dataclass(frozen=True, slots=True)
class Letters:
    """The characters of a text by kind. ``visible`` is all but white space."""

    visible: int
    digits: int
    latin: int
    han: int
    kana: int
    hangul: int
    greek: int
    other: int

    @property
    def letters(self) -> int:
        """All letters, Han characters among them."""
        return self.latin + self.han + self.kana + self.hangul + self.greek + self.other

    @property
    def letters_and_digits(self) -> int:
        """Of whatever script."""
        return self.letters + self.digits


def count_letters(data: bytes) -> Letters:
    """Count the characters of a text in UTF-8.

    Full-width forms, signs and emoji count as visible only; what is neither kana nor punctuation in U+3000 to U+3FFF
    counts as Han.
    """
    size = len(data)

    def count(kind: bytes) -> int:
        return size - len(data.translate(None, kind))

    digits, latin, space = count(_ASCII_DIGITS), count(_ASCII_LETTERS), count(_ASCII_SPACE)
    if data.isascii():
        return Letters(size - space, digits, latin, 0, 0, 0, 0, 0)
    visible = size - count(_TAILS) - space
    han, kana = count(_HAN), 0
    if b"\xe3" in data:
        kana = sum(map(data.count, _KANA_HEADS))
        han += data.count(b"\xe3") - kana - data.count(b"\xe3\x80")
    if b"\xf0" in data:
        han += sum(map(data.count, _HAN_B))
    if not count(_RARE):
        return Letters(visible, digits, latin, han, kana, 0, 0, 0)
    return Letters(visible, digits, latin + count(_LATIN), han, kana, count(_HANGUL), count(_GREEK), count(_OTHER))
