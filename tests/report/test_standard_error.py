"""The standard error of a sample of a study against its definition, and against the spread of many samples."""

import doctest
import itertools
import math
import statistics

import numpy as np
import pytest

from deepsad_pl.report import standard_error as module
from deepsad_pl.report.standard_error import ABOVE, BELOW, IN_REACH, standard_error, verdict
from deepsad_pl.study.sample import balanced_sample


def of_values(values: list[float], population: int | None) -> float:
    return standard_error(statistics.stdev(values), len(values), population)


def test_its_square_is_on_average_the_variance_of_the_sample_mean() -> None:
    """All samples of four of nine values, one by one: unbiased to rounding, as Cochran proves."""
    values = [99.2, 97.5, 80.1, 93.0, 98.8, 99.9, 64.2, 91.1, 90.7]
    samples = [list(sample) for sample in itertools.combinations(values, 4)]
    estimated = statistics.mean(of_values(sample, len(values)) ** 2 for sample in samples)
    assert estimated == pytest.approx(statistics.pvariance([statistics.mean(sample) for sample in samples]))


def test_random_samples_of_a_study_lie_within_two_standard_errors_about_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    values = 100 - rng.gamma(2.0, 2.0, 90)
    within = 0
    for _ in range(2000):
        sample = rng.choice(values, 10, replace=False).tolist()
        found = verdict(statistics.mean(sample), of_values(sample, 90), values.mean())
        within += found == IN_REACH
    # Student's t with 9 degrees of freedom is within 2 in 92 % of all cases; the values are skewed.
    assert 0.87 < within / 2000 < 0.95


def test_a_balanced_sample_varies_less_than_its_standard_error_says() -> None:
    """The classes are balanced, so that what they explain is not among the errors of the mean."""
    rng = np.random.default_rng(0)
    normal, known = rng.normal(0, 3, 10), rng.normal(0, 1, 10)
    value = {(i, j): normal[i] + known[j] + rng.normal() for i in range(10) for j in range(10) if i != j}
    samples = [[value[pair] for pair in balanced_sample(list(value), 10, seed)] for seed in range(300)]
    errors = statistics.mean(of_values(sample, 90) ** 2 for sample in samples)
    assert statistics.variance(map(statistics.mean, samples)) < errors / 2


def test_a_complete_cell_is_not_corrected_and_a_single_experiment_has_none() -> None:
    assert standard_error(3.0, 9) == standard_error(3.0, 9, population=9) == 1.0
    assert math.isnan(standard_error(math.nan, 1, population=90))
    with pytest.raises(ValueError, match="10 experiments cannot be drawn from 9"):
        standard_error(3.0, 10, population=9)


def test_exactly_two_standard_errors_are_within() -> None:
    assert [verdict(mean, 0.5, 96.0) for mean in (95.0, 97.0, 94.99, 97.01)] == [IN_REACH, IN_REACH, BELOW, ABOVE]
    assert verdict(96.0, 0.0, 96.0) == IN_REACH
    assert verdict(96.0, 0.5, None) is None
    assert verdict(96.0, math.nan, 96.0) is None


def test_the_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(module).failed == 0
