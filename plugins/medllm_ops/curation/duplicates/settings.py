"""What counts as a near duplicate."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from medllm_ops.curation.duplicates.normalise import Unit


class Shingles(BaseModel):
    """The shingles of one way of writing, and how many of them two near duplicates share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    candidate_size: int = Field(ge=1, le=20, description="Units in a shingle of the MinHash that finds candidates.")
    size: int = Field(ge=1, le=20, description="Units in a shingle of the sets whose Jaccard similarity decides.")
    threshold: float = Field(gt=0, le=1, description="The Jaccard similarity from which on two texts are duplicates.")


class DuplicateSettings(BaseModel):
    """The step of exact and near duplicates; docs/curation/duplicates.md gives the reasons."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Published: shingles of 5 words and a Jaccard similarity of 0.8 (Lee et al. 2022, arXiv:2107.06499, section 4.2),
    # 0.75 (FineWeb, Penedo et al. 2024, arXiv:2406.17557, section 3.4), 0.7 (BigCode, Allal et al. 2023,
    # arXiv:2301.03988, section 4.1). With 5 words, 3 % of the words changed here and there give 0.75, and 5 % give
    # 0.63. Pairs of words tell scattered changes (10 % of the words: 0.68) from other text under the same head
    # (30 %: 0.54); our value lies between the two.
    words: Shingles = Field(
        default=Shingles(candidate_size=3, size=2, threshold=0.6),
        description="Texts of words with spaces between them, such as English ones.",
    )
    # Chinese: Data-Juicer's character tokenisation has windows of 5 and 0.7. A changed word changes two characters,
    # thus three pairs of them; 10 % of single characters changed give 0.68, 10 % of the words 0.75.
    characters: Shingles = Field(
        default=Shingles(candidate_size=3, size=2, threshold=0.65),
        description="Chinese and Japanese texts.",
    )
    # A pair of candidate similarity s meets in a band with probability 1 - (1 - s^rows)^bands (Leskovec, Rajaraman,
    # Ullman, Mining of Massive Datasets, section 3.4.2): 0.97 at s = 0.57, which is 10 % of the words changed,
    # and 0.9999 at 0.73, which is 5 %.
    bands: int = Field(default=32, ge=1, le=256, description="Bands of the MinHash signature.")
    rows: int = Field(default=4, ge=2, le=32, description="Hashes in each band; bands x rows are computed.")
    seed: int = Field(default=1, ge=1, le=2**32 - 1, description="Of the MinHash; signatures of two seeds never meet.")
    neighbours: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="In a bucket of more texts, each is compared with so many before and after it by content hash.",
    )
    sources: tuple[str, ...] = Field(
        default=(),
        description="Sources from the most authoritative on; of equally long duplicates, the first of them is kept.",
    )

    def shingles(self, unit: Unit) -> Shingles:
        """The shingles of texts of this unit."""
        return self.characters if unit is Unit.CHARACTERS else self.words

    @property
    def hashes(self) -> int:
        """The length of a MinHash signature."""
        return self.bands * self.rows
