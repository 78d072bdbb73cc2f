"""Counts in messages agree with their nouns."""

import pytest

from deepsad_pl.common.counting import are, classes_named, counted


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        (0, ("sample",), "0 samples"),
        (1, ("sample",), "1 sample"),
        (2, ("sample",), "2 samples"),
        (1, ("labeled anomaly", "labeled anomalies"), "1 labeled anomaly"),
        (3, ("labeled anomaly", "labeled anomalies"), "3 labeled anomalies"),
    ],
)
def test_one_is_singular_and_any_other_count_is_plural(count: int, words: tuple[str, ...], told: str) -> None:
    assert counted(count, *words) == told
    assert are(count) == ("is" if count == 1 else "are")


def test_classes_are_named_in_the_singular_or_plural() -> None:
    assert classes_named(["3"]) == "class 3"
    assert classes_named(["3", "cat"]) == "classes 3, cat"
