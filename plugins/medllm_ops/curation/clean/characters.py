"""Which characters are replaced by what, wherever they stand: the only part of NFKC that changes no meaning.

NFKC makes ``10⁻³`` to ``10-3``, ``H₂O`` to ``H2O``, ``㎡`` to ``m2``, ``1½`` to ``11⁄2``, ``服①②`` to ``服12`` and the
Chinese comma to an English one. So it is applied to the classes below, and to nothing else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

COMPATIBILITY = "unicode.compatibility"
INVISIBLE = "unicode.invisible"
SPACES = "unicode.spaces"
LINE_ENDS = "unicode.line_ends"
WINDOWS_1252 = "unicode.windows_1252"
SYMBOL_FONT = "unicode.symbol_font"


def _compatibility() -> dict[str, str]:
    table: dict[str, str] = {}
    # Full-width letters and digits, and the signs that Chinese typography has no use of its own for.
    signs = "＂＃＄％＆＇＊＋／＜＝＞＠＼＾＿｀｜"
    full_width = [*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), *map(ord, signs)]
    table |= {chr(code): chr(code - 0xFEE0) for code in full_width}
    # Half-width Chinese punctuation and the small signs of some input methods: P﹤0.05.
    table |= dict(zip("｡｢｣､", "。「」、", strict=True))
    table |= dict(zip("﹐﹑﹔﹕﹖﹗﹙﹚", "，、；：？！（）", strict=True))
    table |= dict(zip("﹟﹠﹡﹢﹣﹤﹥﹦﹪﹫", "#&*+-<>=%@", strict=True))
    # Ligatures, as PDF files leave them, and the Kangxi radicals that stand there for Han characters.
    nfkc = [*range(0xFB00, 0xFB07), *range(0x2F00, 0x2FD6), 0x2E9F, 0x2EF3]
    table |= {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in nfkc}
    table |= dict.fromkeys("\u2010\u2011", "-")  # the hyphen, and the one that does not break: COVID‑19
    table["µ"] = "μ"  # the sign for a millionth: two characters that look alike
    # Units in one square, taken apart once: NFKC would go on and make the exponent of ㎡ a digit.
    for code in (*range(0x3371, 0x337B), *range(0x3380, 0x33E0)):
        parts = unicodedata.decomposition(chr(code)).split()
        table[chr(code)] = "".join(chr(int(part, 16)) for part in parts[1:]).replace("∕", "/").replace("ℓ", "l")
    table["㏗"] = "pH"  # its decomposition says PH
    return table


def _chars(codes: Iterable[int]) -> dict[str, str]:
    return {chr(code): "" for code in codes}


def _windows_1252() -> dict[str, str]:
    r"""C1 controls are what is left of a text in Windows-1252 that was read as Latin-1: 5\x9610 mg is 5–10 mg."""
    table = {}
    for code in range(0x80, 0xA0):
        try:
            table[chr(code)] = bytes([code]).decode("cp1252")
        except UnicodeDecodeError:
            table[chr(code)] = ""
    return table


def _symbol_font() -> dict[str, str]:
    """Word writes a character of its Symbol font as U+F000 + code: U+F06D is μ, and without it a μg is a g.

    Adobe's Symbol encoding; only letters and signs of a text, no pieces of brackets.
    """
    runs = {
        0x22: "∀", 0x24: "∃", 0x27: "∋", 0x2A: "∗", 0x2D: "−", 0x40: "≅", 0x5C: "∴", 0x5E: "⊥", 0x7E: "∼",
        0x41: "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", 0x61: "αβχδεφγηιϕκλμνοπθρστυϖωξψζ",
        0xA2: "′≤", 0xA5: "∞", 0xAB: "↔←↑→↓°±″≥×∝∂•÷≠≡≈…", 0xC5: "⊕∅", 0xCE: "∈∉", 0xD0: "∠∇®©™∏√·¬", 0xE5: "∑",
    }  # fmt: skip
    table = {chr(0xF000 + code): chr(code) for code in range(0x20, 0x7F) if not chr(code).isalpha()}
    for start, characters in runs.items():
        table |= {chr(0xF000 + start + offset): character for offset, character in enumerate(characters)}
    return table


COMPATIBLE = _compatibility()
INVISIBLES = _chars(
    [
        *(0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180E, 0xFEFF, 0xFFFC),
        *range(0x200B, 0x2010),  # zero-width space and joiners, marks of direction
        *range(0x202A, 0x202F),  # bidirectional embedding
        *range(0x2060, 0x2070),  # word joiner, invisible operators, bidirectional isolates
        *range(0xFE00, 0xFE10),  # variation selectors
        *range(0xFFF9, 0xFFFC),  # marks of annotations
        *range(0xE0000, 0xE0080),  # tags
        *range(0xE0100, 0xE01F0),  # ideographic variation selectors
        *range(0xD800, 0xE000),  # lone surrogates are not text
    ]
)
SPACE = {chr(code): " " for code in (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)}
LINE_END = dict.fromkeys("\r\x0b\x0c\u2028\u2029", "\n")
WINDOWS = _windows_1252()
SYMBOL = _symbol_font()
