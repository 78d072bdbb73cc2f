"""What the benchmarks share: cases measured in turn, ratios to a baseline, one table and one JSON file.

A machine's speed drifts by more than most of what is compared. So the cases of a comparison run in one process, in
turn, in an order that moves on by one each round, and what is reported first is a ratio.
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
        what: the comparison, such as the problem and its size.
        case: the way to do it.
        unit: of the values.
        baseline: the case of the same comparison whose ratio is 1.
        values: one a round, in their order; none where the case was not run.
        ratio: how many times better than the baseline, of the medians; None where one of the two was not run.
        note: why it was not run, or what else is to be known.
        more: further columns by name, the same for all rows of a report.
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
        """Of the values; None without any."""
        return median(self.values) if self.values else None


def alternate(
    cases: Mapping[str, Callable[[], float]], *, repeats: int = 5, warmup: int = 1, title: str = ""
) -> Measured:
    """Measure cases in turn, round by round, each round beginning with the next one of them.

    Args:
        cases: each call runs a case once and returns its measure, such as seconds or ms a step.
        repeats: rounds that count, >= 1.
        warmup: rounds before them whose measures are dropped, >= 0.
        title: what the progress bar on stderr says, or a line there where that is no terminal.

    Returns:
        All measures of each case, shape (repeats,) each, in the order of the rounds.

    Raises:
        ValueError: if there is no case or no round.
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
    """How long some work takes, all that it has started on the device included."""
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
    """The rows of one comparison.

    Args:
        what: the comparison.
        measured: the measures of each case; an empty list where a case was not run.
        baseline: the case that ratios are to.
        unit: of the measures.
        higher_is_better: such as samples a second; of times the lower ones are.
        notes: of some cases.
        more: further columns of some cases.

    Returns:
        One row a case, in their order.

    Raises:
        ValueError: if the baseline is no case.
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
    """The progress bars of trainings are drawn, as in an experiment, but not shown beside that of the benchmark."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Nothing is drawn while something is measured.
    return Progress(*columns, console=errors, transient=True, auto_refresh=False, disable=not errors.is_terminal)


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
