"""The figure on top of the README: means over the same pairs of classes for all methods, and no faults."""

import pandas as pd
import pytest
from figure_texts import drawn_texts, faults

from benchmarks.showcase import METHODS, known_and_novel, showcase_figure
from deepsad_pl.common.errors import DeepSADError


def cells() -> pd.DataFrame:
    made = [("deep_svdd", 0.0, 93.0, 93.0, 2)]
    made += [
        ("classifier", 0.05, 100.0, 85.0, 2),
        ("deep_svdd", 0.05, 93.0, 93.0, 2),
        ("deep_sad", 0.05, 99.0, 95.0, 2),
    ]
    return pd.DataFrame(made, columns=["column", "gamma_l", "known_mean", "novel_mean", "known_n"])


def test_the_means_are_those_of_the_table() -> None:
    found = known_and_novel(cells())
    assert list(found.index) == list(METHODS)
    assert found["pairs"].tolist() == [2, 2, 2]
    assert found.loc["classifier"].tolist() == [100.0, 85.0, 2]


def test_a_method_without_results_is_an_error() -> None:
    with pytest.raises(DeepSADError, match="there are no results of classifier"):
        known_and_novel(cells()[lambda frame: frame["column"] != "classifier"])


def test_nothing_is_cut_off_or_over_another_even_if_methods_are_close() -> None:
    close = known_and_novel(cells())
    close[["known_mean", "novel_mean"]] = [[99.9, 97.0], [97.1, 97.1], [100.0, 97.05]]
    figure = showcase_figure({"One": known_and_novel(cells()), "Other": close})
    assert faults(figure) == []
    assert any("Deep SAD" in text for text, _ in drawn_texts(figure))
