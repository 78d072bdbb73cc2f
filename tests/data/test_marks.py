"""Labels that a person wrote: what they mean, and when that is not clear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.marks import semi_labels, truths

KEY = "dataset.label=quality"


def test_named_labels_are_known_and_all_others_unlabeled() -> None:
    found = semi_labels(["ok", "", "scrap", "good", "?", " ok "], ["ok", "good"], ["scrap"], key=KEY)
    assert found.tolist() == [1, 0, -1, 1, 0, 1]


@given(st.lists(st.sampled_from(["ok", "bad", "", "other"]), min_size=1))
def test_labels_against_a_plain_loop(marks: list[str]) -> None:
    marks = ["ok", "bad", *marks]
    loop = []
    for mark in marks:
        if mark == "ok":
            loop.append(1)
        elif mark == "bad":
            loop.append(-1)
        else:
            loop.append(0)
    assert semi_labels(marks, ["ok"], ["bad"], key=KEY).tolist() == loop


@pytest.mark.parametrize("marks", [["-1", "0", "1", ""], ["-1.0", "0.0", "1.0", ""], ["-1", "0", "+1", ""]])
def test_numbers_are_semi_labels_if_minus_one_occurs(marks: list[str]) -> None:
    assert semi_labels(marks, [], [], key=KEY).tolist() == [-1, 0, 1, 0]


@pytest.mark.parametrize(
    ("marks", "shown"),
    [
        (["0", "1", "0"], "'1' (1), '0' (2)"),
        (["ok", "", "", "scrap"], "'ok' (1), 'scrap' (1), no label (2)"),
        (["-1", "2"], "'-1' (1), '2' (1)"),
        (["1", "1"], "'1' (2)"),
    ],
)
def test_labels_of_unknown_meaning_are_refused_with_their_spellings(marks: list[str], shown: str) -> None:
    with pytest.raises(DeepSADError) as caught:
        semi_labels(marks, [], [], key=KEY)
    assert f"{KEY} has the labels {shown}, whose meaning is not known" in str(caught.value)
    assert "dataset.anomaly=[" in str(caught.value)


def test_a_label_that_does_not_occur_is_refused_with_the_nearest() -> None:
    with pytest.raises(DeepSADError, match=r"dataset.anomaly names 'scrapp', but .* did you mean scrap\?"):
        semi_labels(["ok", "scrap"], ["ok"], ["scrapp"], key=KEY)


def test_a_label_with_two_meanings_is_refused() -> None:
    with pytest.raises(DeepSADError, match="both name 'ok'"):
        semi_labels(["ok"], ["ok"], ["ok"], key=KEY)


def test_two_unicode_forms_of_a_label_are_one() -> None:
    assert semi_labels(["defekt\u00e9", "x"], [], ["defekte\u0301"], key=KEY).tolist() == [-1, 0]


def test_in_a_separate_truth_column_all_but_normal_are_anomalies() -> None:
    assert truths(["ok", "crack", "", "hole"], ["ok"], [], key=KEY, strict=False).tolist() == [0, 1, -1, 1]


def test_in_the_label_column_the_truth_is_known_only_where_it_is_labeled() -> None:
    found = truths(["ok", "scrap", "", "?"], ["ok"], ["scrap"], key=KEY, strict=True)
    assert found.tolist() == [0, 1, -1, -1]


def test_truth_may_be_numbers() -> None:
    assert truths(["-1", "1", ""], [], [], key=KEY, strict=False).tolist() == [1, 0, -1]
    assert truths(["-1", "1", ""], [], [], key=KEY, strict=False).dtype == np.int64
    with pytest.raises(DeepSADError, match="meaning is not known"):
        truths(["0", "1"], [], [], key=KEY, strict=False)


def test_another_spelling_of_a_named_label_is_refused() -> None:
    """Otherwise it would silently count as unlabeled, or as an anomaly."""
    with pytest.raises(DeepSADError, match="has the labels 'scrap' and 'Scrap', of which only the first is named"):
        semi_labels(["ok", "scrap", "Scrap"], ["ok"], ["scrap"], key=KEY)
    assert semi_labels(["scrap", "Scrap", ""], [], ["scrap", "Scrap"], key=KEY).tolist() == [-1, -1, 0]
    with pytest.raises(DeepSADError, match="has the labels 'ok' and 'OK'"):
        truths(["ok", "OK", "crack"], ["ok"], [], key=KEY, strict=False)


def test_truth_without_any_named_normal_is_refused() -> None:
    with pytest.raises(DeepSADError, match=r"names 'good', but \S+ has no such value, so every row with a known truth"):
        truths(["fine", "crack", ""], ["good"], [], key=KEY, strict=False)


def test_a_label_named_in_another_case_is_one_problem() -> None:
    with pytest.raises(DeepSADError) as caught:
        semi_labels(["ok", "Scrap", ""], ["ok"], ["scrap"], key=KEY)
    assert caught.value.problems == [
        f"dataset.anomaly names 'scrap', but {KEY} has the labels no label (1), 'Scrap' (1), 'ok' (1); did you mean "
        "Scrap?"
    ]
    with pytest.raises(DeepSADError) as caught:
        semi_labels(["False", "True"], ["false"], ["true"], key=KEY)
    assert [problem.partition(";")[2] for problem in caught.value.problems] == [
        " did you mean False?",
        " did you mean True?",
    ]
    assert semi_labels(["False", "True"], [False], [True], key=KEY).tolist() == [1, -1]
    # In a truth column, it would count as an anomaly.
    for normal in (["Ok"], ["Ok", "good"]):
        with pytest.raises(DeepSADError) as caught:
            truths(["ok", "good", "crack"], normal, [], key=KEY, strict=False)
        assert caught.value.problems == [f"'Ok' is named, but {KEY} has 'ok'; did you mean ok?"]


@pytest.mark.parametrize("marks", [["0", "1", ""], ["0.0", "1.0", ""], ["0.00", "1.0", ""]])
@pytest.mark.parametrize("names", [(0, 1), ("0", "1"), (0.0, 1.0), ("0.0", "1.0")])
def test_whole_numbers_are_labels_with_and_without_decimals(marks: list[str], names: tuple[object, object]) -> None:
    """pandas writes 1.0 if another cell of the column is empty."""
    assert semi_labels(marks, [names[0]], [names[1]], key=KEY).tolist() == [1, -1, 0]
    assert truths(marks, [names[0]], [], key=KEY, strict=False).tolist() == [0, 1, -1]


def test_other_numbers_are_compared_as_they_are_spelled() -> None:
    assert semi_labels(["007", "7", "7.5", "7.50"], ["007"], ["7.5"], key=KEY).tolist() == [1, 0, -1, 0]
