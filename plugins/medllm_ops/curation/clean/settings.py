"""The settings of cleaning: the section ``clean`` of ``include/datasets/curation.yaml``.

Where a threshold comes from stands beside it:

- *Gopher*: Rae et al. 2021, arXiv:2112.11446, section A1.1 (quality) and table A1 (repetition), for English web pages.
- *ChineseWebText*: Chen et al. 2023, arXiv:2311.01149, preprocessing (and its code, EvalWeb), for Chinese web pages.
- *C4*: Raffel et al. 2020, arXiv:1910.10683, section 2.2. *RefinedWeb*: Penedo et al. 2023, arXiv:2306.01116, G.2.

They were found for web pages of at least 50 words or 200 characters. Ours are citations, trial records, chapters of
classics: shorter, and chosen by people. Where a default differs, the comment says from what and why.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UnicodeSettings(_Settings):
    """What is done with characters beyond those that cannot be seen, which always go."""

    compatibility: bool = Field(
        default=True, description="Full-width letters, digits and signs, square units, ligatures become plain ones."
    )
    private_use: bool = Field(
        default=True, description="Characters of Word's Symbol font become what they show; other private ones go."
    )


class LayoutSettings(_Settings):
    """How the lines of a text are put in order."""

    html: bool = Field(default=True, description="Tags go, entities become characters, <sup>2</sup> becomes ².")
    markdown: bool = Field(
        default=True, description="In documents, escapes, headings, bold, links lose their marks; dialogues keep them."
    )
    hard_wraps: bool = Field(default=True, description="Lines of documents that were cut at a fixed width are joined.")


class BoilerplateSettings(_Settings):
    """Text that was put around the text."""

    remove: bool = Field(default=True, description="Remove lines and closings that pages and portals add.")
    more_lines: tuple[str, ...] = Field(
        default=(), description="Regular expressions; a line that one of them matches as a whole is removed, too."
    )

    @field_validator("more_lines")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns


class LanguageSettings(_Settings):
    """Which languages stay."""

    keep: tuple[str, ...] = Field(
        default=("en", "zh"), min_length=1, description="ISO 639-1 codes of the languages that stay."
    )
    correct: bool = Field(default=True, description="Correct the row's language where its text is plainly in another.")
    # The share at which our own readers call a dialogue Chinese: names of drugs and genes are Latin.
    han_share: Share = Field(default=0.2, description="From this share of its letters in Han on, a text is Chinese.")


class RepetitionSettings(_Settings):
    """Where a text repeats itself so much that it is no text. Shares are of lines or words, 1 switches a rule off."""

    # Gopher, table A1: .30 and .20.
    repeated_lines: Share = Field(default=0.30, description="Most lines, of all, that stood there before.")
    repeated_line_characters: Share = Field(default=0.20, description="Most characters in lines that stood before.")
    # Gopher, table A1: .20, .18, .16. In a dose table, "mg bid" are two words of four.
    top_2_gram: Share = Field(default=0.6, description="Most words in the most frequent pair of words.")
    top_3_gram: Share = Field(default=0.6, description="Most words in the most frequent three words in a row.")
    top_4_gram: Share = Field(default=0.6, description="Most words in the most frequent four words in a row.")
    # Gopher, table A1: .15 for 5 words in a row, .01 less for each word more, .10 for 10. With these, three of four
    # trial records would go, for they give each outcome the same measure and time frame: at most .72 for five words
    # (a list alone .83), .66 for ten. A sentence said ten times has .87 for both.
    repeated_5_grams: Share = Field(default=0.9, description="Most words in runs of five that stood there before.")
    repeated_10_grams: Share = Field(default=0.8, description="The same for ten; between five and ten: between.")
    # ChineseWebText: .5 of the runs of 13 characters. Classical tables of the cycle of years reach .52;
    # the default was chosen above them.
    repeated_13_characters: Share = Field(default=0.8, description="Chinese: most runs of 13 characters seen twice.")


class EnglishLimits(_Settings):
    """Limits for texts in English and other languages with words between spaces."""

    # Gopher: 50 and 100,000. An abstract of two sentences is whole.
    min_words: int = Field(default=10, ge=0, description="Fewest words.")
    max_words: int = Field(default=100_000, ge=1, description="Most words.")
    # Gopher's thresholds were found on texts of at least 50 words; below, a share is chance.
    shares_from_words: int = Field(default=50, ge=0, description="Words from which on the shares below are looked at.")
    # Gopher: 3 to 10. A dose table has 'mg', 'bid', '5'; a list of compounds has long names.
    min_mean_word_length: float = Field(default=2, ge=0, description="Lowest mean length of a word, in characters.")
    max_mean_word_length: float = Field(default=15, ge=0, description="Highest mean length of a word, in characters.")
    # Gopher: .1, for the hash and for the ellipsis.
    max_symbols_to_words: float = Field(default=0.1, ge=0, description="Most # per word, and most ellipses per word.")
    # Gopher: .9. Trial records are lists, and whole.
    max_bullet_lines: Share = Field(default=1.0, description="Most lines that begin with a bullet.")
    # Gopher: .3.
    max_ellipsis_lines: Share = Field(default=0.3, description="Most lines that end with an ellipsis.")
    # Gopher: .8. Half of a dose table is numbers.
    min_words_with_letter: Share = Field(default=0.3, description="Fewest words, of all, that hold a letter.")
    # Gopher: 2 of the, be, to, of, and, that, have, with. A table or a list of terms has none.
    min_stop_words: int = Field(default=0, ge=0, le=8, description="Fewest different ones of Gopher's stop words.")
    # Of what is no white space. Half signs is a drawing, a ruler, a broken table.
    min_letters_and_digits: Share = Field(default=0.5, description="Fewest characters that are letters or digits.")


class ChineseLimits(_Settings):
    """Limits for texts in Chinese, classical Chinese among them."""

    # ChineseWebText: 200. An entry of a classical book is whole with thirty.
    min_characters: int = Field(default=10, ge=0, description="Fewest letters and digits.")
    max_characters: int = Field(default=1_000_000, ge=1, description="Most characters.")
    # ChineseWebText's thresholds were found on texts of at least 200 characters.
    shares_from_characters: int = Field(default=200, ge=0, description="Characters from which on shares are looked at.")
    # ChineseWebText: 10. Verses have seven, lists of ingredients four.
    min_mean_line: float = Field(default=0, ge=0, description="Lowest mean length of a line, in characters.")
    # ChineseWebText: .3.
    min_han: Share = Field(default=0.3, description="Fewest Han characters, of all that are no white space.")
    # Gopher's .1 per word; a Chinese word has one and a half characters.
    max_symbols_to_characters: float = Field(default=0.07, ge=0, description="Most # per character, most ellipses.")
    # Gopher: .3.
    max_ellipsis_lines: Share = Field(default=0.3, description="Most lines that end with an ellipsis.")
    min_letters_and_digits: Share = Field(default=0.5, description="Fewest characters that are letters or digits.")


class DialogueSettings(_Settings):
    """What a dialogue has to be. Lengths count all of its turns, shares each answer by itself."""

    faults: Literal["drop", "repair"] = Field(
        default="drop",
        description="repair: turns of one role in a row are joined, empty and unanswered ones go, what is left stays.",
    )
    max_characters: int = Field(default=200_000, ge=1, description="Most characters of all turns together.")
    max_turns: int = Field(default=200, ge=2, description="Most turns.")


class LostSettings(_Settings):
    """Characters that a wrong decoding lost, each shown as U+FFFD."""

    max_share: Share = Field(default=0.005, description="Most lost characters, of all.")
    beside_number: bool = Field(
        default=True, description="Drop a text with a lost character beside a number: it may be the unit of a dose."
    )


class CleanSettings(_Settings):
    """All settings of cleaning."""

    unicode: UnicodeSettings = UnicodeSettings()
    layout: LayoutSettings = LayoutSettings()
    boilerplate: BoilerplateSettings = BoilerplateSettings()
    language: LanguageSettings = LanguageSettings()
    lost: LostSettings = LostSettings()
    english: EnglishLimits = EnglishLimits()
    chinese: ChineseLimits = ChineseLimits()
    repetition: RepetitionSettings = Field(default=RepetitionSettings(), description="For documents.")
    # Answers that a model wrote say a paragraph, or all of it, twice: the five seen in 160 of DISC-MedLLM lie between
    # .65 and .98, and .6 was chosen below them. Code repeats its lines.
    answer_repetition: RepetitionSettings = Field(
        default=RepetitionSettings(
            repeated_lines=1,
            repeated_line_characters=0.6,
            repeated_5_grams=0.6,
            repeated_10_grams=0.6,
            repeated_13_characters=0.6,
        ),
        description="For each answer of a dialogue.",
    )
    dialogues: DialogueSettings = DialogueSettings()
    chat_marks: bool = Field(
        default=True, description="Drop texts with marks of chat templates (<|im_end|>): a tokenizer obeys them."
    )
