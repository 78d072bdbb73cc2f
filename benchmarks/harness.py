"""Measure cases in turn and compare them with a baseline.

The speed of a machine drifts by more than most of the differences to be measured. So all cases of a comparison run in
one process, in turn, starting with another case in each round, and ratios are reported first.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deepsad_pl.common.console import console

Measured = dict[str, list[float]]

errors = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Row:
    """One case of one comparison.

    Attributes:
        what: name of the comparison, such as the problem and its size.
        case: name of the case.
        unit: unit of the values.
        baseline: the case of the same comparison whose ratio is 1.
        values: one value per round, in order; empty if the case was not run.
        ratio: how many times better than the baseline the case is, by the medians; None if one of them was not run.
        note: why the case was not run, or another remark.
        more: values of further columns of the table, by name.
    """

    what: str
    case: str
    unit: str
    baseline: str
    values: tuple[float, ...] = ()
    ratio: float | None = None
    note: str = ""
    more: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        """The median of the values; None if there are none."""
        return median(self.values) if self.values else None


def alternate(
    cases: Mapping[str, Callable[[], float]], *, repeats: int = 5, warmup: int = 1, title: str = ""
) -> Measured:
    """Measure cases in turn, round by round; each round starts with the next case.

    Args:
        cases: functions that run a case once and return its value, such as seconds or ms per step.
        repeats: number of rounds that count, >= 1.
        warmup: number of rounds before them, whose values are dropped, >= 0.
        title: text of the progress bar on stderr, or of a single line if stderr is no terminal.

    Returns:
        The values of each case, one per round, in order.

    Raises:
        ValueError: if there are no cases, repeats < 1 or warmup < 0.
    """
    if not cases or repeats < 1 or warmup < 0:
        raise ValueError(f"{len(cases)} cases, repeats {repeats}, warmup {warmup}; at least 1, 1 and 0 are needed")
    measured: Measured = {name: [] for name in cases}
    order = deque(cases)
    if not errors.is_terminal:
        errors.print(f"{title}: {', '.join(cases)}", markup=False, soft_wrap=True)
    with _progress() as progress:
        bar = progress.add_task(title, total=(warmup + repeats) * len(cases))
        for round_ in range(warmup + repeats):
            for name in order:
                progress.update(bar, description=f"{title} {name}".strip(), refresh=True)
                value = cases[name]()
                if round_ >= warmup:
                    measured[name].append(value)
                progress.advance(bar)
            order.rotate(-1)
    return measured


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Measure the seconds that some work takes, including all that it starts on the device."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def rows(
    what: str,
    measured: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    unit: str,
    higher_is_better: bool = False,
    notes: Mapping[str, str] | None = None,
    more: Mapping[str, Mapping[str, float | str | None]] | None = None,
) -> list[Row]:
    """Make the rows of one comparison.

    Args:
        what: name of the comparison.
        measured: values of each case; empty if the case was not run.
        baseline: the case whose ratio is 1.
        unit: unit of the values.
        higher_is_better: true for rates such as samples per second, false for times.
        notes: remarks on some cases.
        more: values of further columns for some cases.

    Returns:
        One row per case, in order.

    Raises:
        ValueError: if the baseline is not among the cases.
    """
    if baseline not in measured:
        raise ValueError(f"the baseline {baseline!r} is none of the cases {', '.join(measured)}")

    def ratio(case: str) -> float | None:
        if not measured[case] or not measured[baseline]:
            return None
        own, other = median(measured[case]), median(measured[baseline])
        return own / other if higher_is_better else other / own

    return [
        Row(
            what,
            case,
            unit,
            baseline,
            tuple(values),
            ratio(case),
            (notes or {}).get(case, ""),
            (more or {}).get(case, {}),
        )
        for case, values in measured.items()
    ]


@contextmanager
def quiet_console() -> Iterator[None]:
    """Hide the progress bars of trainings; they are still updated, as in an experiment."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # The bar is not redrawn during a measurement.
    return Progress(*columns, console=errors, transient=True, auto_refresh=False, disable=not errors.is_terminal)


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
