from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medllm_ops.curation.duplicates.bands import index, meetings, pack, pairs, unpack

BANDS = st.integers(1, 4).flatmap(
    lambda bands: st.integers(0, 12).flatmap(
        lambda texts: st.lists(
            st.lists(st.integers(0, 3), min_size=texts, max_size=texts), min_size=bands, max_size=bands
        )
    )
)


def test_packing() -> None:
    high, low = np.array([0, 1, 2**32 - 1]), np.array([2**32 - 1, 0, 5])
    assert [numbers.tolist() for numbers in unpack(pack(high, low))] == [high.tolist(), low.tolist()]
    assert np.all(np.diff(pack(high, low)) > 0)


@given(BANDS)
def test_pairs_are_those_that_share_a_key(keys: list[list[int]]) -> None:
    array = np.array(keys, np.uint32).reshape(len(keys), -1)
    texts = array.shape[1]
    members = np.arange(texts)
    found = pairs(lambda band: index(array[band], members), len(keys), 100)
    expected = [
        (one, other) for one, other in combinations(range(texts), 2) if any(band[one] == band[other] for band in keys)
    ]
    assert list(zip(*(numbers.tolist() for numbers in unpack(found)), strict=True)) == expected


@given(BANDS, st.integers(1, 4))
def test_a_large_bucket_gives_each_text_its_neighbours(keys: list[list[int]], neighbours: int) -> None:
    array = np.array(keys, np.uint32).reshape(len(keys), -1)
    found = pairs(lambda band: index(array[band], np.arange(array.shape[1])), len(keys), neighbours)
    expected = set()
    for band in keys:
        for key in set(band):
            bucket = [text for text, one in enumerate(band) if one == key]
            expected |= {(one, two) for i, one in enumerate(bucket) for two in bucket[i + 1 : i + 1 + neighbours]}
    assert set(zip(*(numbers.tolist() for numbers in unpack(found)), strict=True)) == expected


@given(st.data(), st.integers(1, 3))
def test_meetings_are_the_neighbours_with_the_same_key(data: st.DataObject, neighbours: int) -> None:
    old = data.draw(st.lists(st.integers(0, 3), max_size=12))
    new = data.draw(st.lists(st.integers(0, 3), max_size=5))
    places = data.draw(st.lists(st.integers(0, len(old)), min_size=len(new), max_size=len(new)))
    band = index(np.array(old, np.uint32), np.arange(len(old)))
    others, members = meetings(band, np.array(new, np.uint32), np.array(places, np.int64), neighbours)
    expected = []
    for other, (key, place) in enumerate(zip(new, places, strict=True)):
        bucket = [text for text, one in enumerate(old) if one == key]
        before = [text for text in bucket if text < place][-neighbours:]
        after = [text for text in bucket if text >= place][:neighbours]
        expected += [(other, text) for text in before + after]
    assert sorted(zip(others.tolist(), members.tolist(), strict=True)) == sorted(expected)
