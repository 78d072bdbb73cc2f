"""The balanced sample of a study's pairs."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepsad_pl.study.sample import balanced_sample

pytestmark = pytest.mark.unit


def ordered_pairs(classes: int) -> list[tuple[str, str]]:
    return [(str(i), str(j)) for i, j in product(range(classes), repeat=2) if i != j]


def spread(drawn: list[tuple[str, str]], place: int, entries: set[str]) -> int:
    often = Counter(pair[place] for pair in drawn)
    return max(often[entry] for entry in entries) - min(often[entry] for entry in entries)


@settings(deadline=None)  # the first call imports scipy
@given(classes=st.integers(2, 12), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_classes_occur_equally_often_up_to_one(classes: int, seed: int, data: st.DataObject) -> None:
    pairs = ordered_pairs(classes)
    drawn = balanced_sample(pairs, data.draw(st.integers(0, len(pairs))), seed)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(pairs)
    names = {name for name, _ in pairs}
    assert spread(drawn, 0, names) <= 1
    assert spread(drawn, 1, names) <= 1


@settings(deadline=None)
@given(first=st.integers(1, 6), second=st.integers(1, 12), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_normal_classes_and_seeds_occur_equally_often_up_to_one(
    first: int, second: int, seed: int, data: st.DataObject
) -> None:
    pairs = [(str(i), str(j)) for i, j in product(range(first), range(second))]
    drawn = balanced_sample(pairs, data.draw(st.integers(0, len(pairs))), seed)
    assert spread(drawn, 0, {str(i) for i in range(first)}) <= 1
    assert spread(drawn, 1, {str(j) for j in range(second)}) <= 1


@settings(deadline=None)
@given(size=st.integers(0, 90), seed=st.integers(0, 2**32 - 1))
def test_a_larger_sample_begins_with_the_smaller_one(size: int, seed: int) -> None:
    pairs = ordered_pairs(10)
    assert balanced_sample(pairs, 90, seed)[:size] == balanced_sample(pairs, size, seed)


def test_the_seed_decides() -> None:
    samples = [tuple(sorted(balanced_sample(ordered_pairs(10), 10, seed))) for seed in range(20)]
    assert len(set(samples)) == 20


def test_each_pair_is_drawn_about_equally_often() -> None:
    often = Counter(pair for seed in range(900) for pair in balanced_sample(ordered_pairs(10), 10, seed))
    # Of 900 samples of 10 from 90 pairs, each pair is expected in 100, with a standard deviation below 10.
    assert len(often) == 90
    assert max(abs(count - 100) for count in often.values()) < 50


def test_a_size_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 91 of 90 pairs"):
        balanced_sample(ordered_pairs(10), 91, 0)
