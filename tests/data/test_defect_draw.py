"""Which images of known defects are labeled: about equally many of each, drawn by the seed, with nested draws."""

import doctest
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepsad_pl.data import defect_draw
from deepsad_pl.data.calibration import calibration_rows
from deepsad_pl.data.defect_draw import draw_defects, draw_problems, even_shares

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.dictionaries(st.text(min_size=1, max_size=4), st.integers(1, 12), min_size=1, max_size=4)


def is_possible(counts: dict[str, int], total: int, others: int) -> bool:
    """Whether the images suffice, found by drawing one image of each defect in turn."""
    left, names = dict(counts), sorted(counts)
    for turn in range(total):
        left[names[turn % len(names)]] -= 1
    return min(left.values()) >= 0 and sum(left.values()) + others > 0


def test_the_examples_in_the_docstrings() -> None:
    found = doctest.testmod(defect_draw)
    assert found.attempted > 0
    assert found.failed == 0


@given(st.sets(st.text(max_size=3), min_size=1, max_size=5), st.integers(0, 50))
def test_shares_differ_by_one_at_most(names: set[str], total: int) -> None:
    shares = even_shares(names, total)
    assert shares.keys() == names
    assert sum(shares.values()) == total
    assert max(shares.values()) - min(shares.values()) <= 1


@given(COUNTS, SEEDS, st.data())
def test_a_draw_has_its_shares_and_includes_every_smaller_draw(
    counts: dict[str, int], seed: int, data: st.DataObject
) -> None:
    most = min(counts.values()) * len(counts)
    total = data.draw(st.integers(0, most))
    drawn = draw_defects(counts, total, seed)
    assert {name: len(places) for name, places in drawn.items()} == even_shares(counts, total)
    for name, places in drawn.items():
        assert places.dtype == np.int64
        assert (np.diff(places) > 0).all()
        assert ((places >= 0) & (places < counts[name])).all()
    fewer = draw_defects(counts, data.draw(st.integers(0, total)), seed)
    assert all({*fewer[name].tolist()} <= {*drawn[name].tolist()} for name in counts)


def test_the_draw_depends_on_the_seed_not_on_other_labeled_defects() -> None:
    def drawn(seed: int, counts: dict[str, int], total: int) -> list[int]:
        return draw_defects(counts, total, seed)["hole"].tolist()

    alone = drawn(0, {"hole": 30}, 5)
    assert alone == drawn(0, {"hole": 30}, 5)
    assert alone == drawn(0, {"hole": 30, "crack": 9}, 10) == drawn(0, {"crack": 9, "hole": 30}, 10)
    assert alone not in ([drawn(seed, {"hole": 30}, 5) for seed in (1, 2)])
    assert alone != draw_defects({"crack": 30}, 5, 0)["crack"].tolist()


def test_the_draw_is_independent_of_the_calibration_draw() -> None:
    held_out = [calibration_rows(np.zeros(30), kind="conformal", share=0.2, seed=seed).tolist() for seed in range(5)]
    assert all(draw_defects({"hole": 30}, 6, seed)["hole"].tolist() not in held_out for seed in range(5))


def test_every_image_is_drawn_about_equally_often() -> None:
    times = np.zeros(20)
    for seed in range(400):
        times[draw_defects({"hole": 20}, 5, seed)["hole"]] += 1
    # Binomial with a mean of 100 and a standard deviation of 8.7.
    assert np.abs(times - 100).max() < 45


@given(COUNTS, st.integers(1, 50), st.integers(0, 3))
def test_an_impossible_number_is_reported_with_the_largest_possible_one(
    counts: dict[str, int], total: int, others: int
) -> None:
    problems = list(draw_problems(counts, total, others))
    assert bool(problems) != is_possible(counts, total, others)
    largest = next(number for number in count() if not is_possible(counts, number + 1, others))
    way_out = f"use at most dataset.labeled_images={largest}" if largest else "use dataset.labeled_defects=[]"
    assert all(problem.endswith(f"; {way_out}") for problem in problems)


@pytest.mark.parametrize(
    ("total", "others", "said"),
    [
        (9, 1, "dataset.labeled_images=9 labels 4 images of the defect 'hole', but it has 3; "),
        (
            8,
            0,
            "dataset.labeled_images=8 labels all images with a defect, so that no anomaly is left in the test set; ",
        ),
    ],
)
def test_both_reasons_are_reported(total: int, others: int, said: str) -> None:
    (problem,) = draw_problems({"crack": 5, "hole": 3} if others else {"crack": 4, "hole": 4}, total, others)
    assert problem.startswith(said)
