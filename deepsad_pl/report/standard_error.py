"""The standard error of a mean over the experiments of a cell, and whether the paper's mean lies within two of them."""

import math

# How many standard errors the paper's mean may be away from ours.
WITHIN = 2
IN_REACH, BELOW, ABOVE = "within 2 SE", "below", "above"


def standard_error(std: float, n: int, population: int | None = None) -> float:
    r"""The standard error of the mean of ``n`` experiments, drawn at random from all experiments of a cell.

    .. math:: SE = \frac{s}{\sqrt n} \sqrt{1 - \frac{n}{N}}

    This is the standard error of a simple random sample without replacement (Cochran, Sampling Techniques, 3rd ed.
    1977, section 2.5 f.): its square is an unbiased estimate of the variance of the sample mean.

    A complete cell (n = N) has no sampling error, but its mean would still differ with other seeds, by an amount that
    one seed per pair of classes cannot tell. Its standard error is therefore :math:`s / \sqrt n`, without the
    correction.

    Args:
        std: standard deviation over the experiments with ddof 1, in any unit.
        n: number of the experiments.
        population: number of experiments from which they were drawn, N, at least n; None if they are all of them.

    Returns:
        The standard error in the unit of ``std``; NaN for fewer than two experiments.

    Raises:
        ValueError: if there are more experiments than they were drawn from.

    Example:
        >>> round(standard_error(3.0, 9, population=90), 3)
        0.949
        >>> standard_error(3.0, 9)
        1.0
    """
    if population is not None and n > population:
        raise ValueError(f"{n} experiments cannot be drawn from {population} without replacement")
    if n < 2:
        return math.nan
    left_out = 0.0 if population is None else 1 - n / population
    return std / math.sqrt(n) * math.sqrt(left_out or 1.0)


def verdict(mean: float, error: float, paper: float | None) -> str | None:
    """Whether the paper's mean lies within two standard errors of ours.

    Args:
        mean: our mean.
        error: its standard error, in the same unit; NaN if there is none.
        paper: the paper's mean, in the same unit, or None.

    Returns:
        :data:`IN_REACH`; :data:`BELOW` or :data:`ABOVE` if our mean is below or above the paper's by more than two
        standard errors; None without a standard error or a mean of the paper.

    Example:
        >>> verdict(95.0, 0.5, 96.0), verdict(94.9, 0.5, 96.0), verdict(97.1, 0.5, 96.0)
        ('within 2 SE', 'below', 'above')
    """
    if paper is None or math.isnan(error) or math.isnan(mean):
        return None
    difference = mean - paper
    if abs(difference) <= WITHIN * error:
        return IN_REACH
    return BELOW if difference < 0 else ABOVE
