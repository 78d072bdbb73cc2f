"""The figure on top of the README: means over the same pairs of classes for all methods, and no faults."""

import pandas as pd
import pytest
from figure_texts import drawn_texts, faults

from benchmarks.showcase import METHODS, known_and_novel, showcase_figure
from deepsad_pl.common.errors import DeepSADError


def rows() -> pd.DataFrame:
    """Two normal classes with two known ones; Deep SAD has only the first pair of each class."""
    made = []
    for normal in ("0", "1"):
        for known in ("7", "8"):
            pair = {"gamma_l": 0.05, "normal_class": normal, "anomaly_class": known}
            low = 0.9 if known == "7" else 0.1
            made.append({**pair, "column": "classifier", "auroc_known": 1.0, "auroc_novel": low - int(normal) / 10})
            if known == "7":
                made.append({**pair, "column": "deep_sad", "auroc_known": 0.99, "auroc_novel": 0.95})
        made.append({**pair, "anomaly_class": None, "column": "deep_svdd", "auroc_known": 0.93, "auroc_novel": 0.93})
    return pd.DataFrame(made)


def test_all_methods_have_the_same_pairs() -> None:
    found = known_and_novel(rows())
    assert list(found.index) == list(METHODS)
    assert found["pairs"].tolist() == [2, 2, 2]
    # The classifier's .1 belongs to pairs that Deep SAD does not have.
    assert found.loc["classifier", "auroc_novel"] == pytest.approx(85.0)
    assert found.loc["deep_sad", "auroc_novel"] == pytest.approx(95.0)


def test_a_method_without_results_is_an_error() -> None:
    with pytest.raises(DeepSADError, match="there are no results of classifier"):
        known_and_novel(rows()[lambda frame: frame["column"] != "classifier"])


def test_nothing_is_cut_off_or_over_another_even_if_methods_are_close() -> None:
    close = known_and_novel(rows())
    close[["auroc_known", "auroc_novel"]] = [[99.9, 97.0], [97.1, 97.1], [100.0, 97.05]]
    figure = showcase_figure({"One": known_and_novel(rows()), "Other": close})
    assert faults(figure) == []
    assert any("Deep SAD" in text for text, _ in drawn_texts(figure))
