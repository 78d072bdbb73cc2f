"""Seconds of a fit and of a selection among ten, for OC-SVM, KDE and SSAD, compared with plain library calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks import plain
from benchmarks.harness import Row, alternate, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.plain import Fit
from benchmarks.problems import Problem, images, random_images, table
from benchmarks.report import report
from deepsad_pl.shallow.kde import fit_kde
from deepsad_pl.shallow.kernel_grid import default_gamma
from deepsad_pl.shallow.models import KernelModel
from deepsad_pl.shallow.ocsvm import fit_ocsvm
from deepsad_pl.shallow.ssad import fit_ssad
from deepsad_pl.shallow.task import Fitted, Task

SIZES, QUICK_SIZES = (500, 1000, 3000, 6000), (60, 120)
GAMMAS = [2.0**i for i in range(-7, 3)]
BANDWIDTHS = [2.0 ** (i / 2) for i in range(1, 11)]
NU, FOLDS, SEED = 0.1, 5, 0
NOTES = (
    'Fitted as in an experiment, but for the files that let a killed one go on. "one" is a fit at one gamma (a '
    'bandwidth: five folds), "ten" the choice among ten by selection=holdout (a bandwidth: by five folds) and its '
    "final fit.",
    "objective: by how much ours exceeds the plain one's, relative to it (lower is better for SVMs, higher for KDE). "
    "scores: how far apart they are at most on 500 other rows, an offset aside, in standard deviations.",
    "The BLAS in cvxopt's wheels has one thread, whatever --threads says.",
)
# Comparisons whose plain way is expected to take more seconds than this get no warm-up.
_NO_WARMUP_FROM = 2.0


@dataclass(frozen=True)
class Method:
    """A method, in our implementation and in the plain way.

    Attributes:
        name: name of the method.
        library: what the plain way calls.
        power: p, where the seconds of the plain way grow as n^p; to estimate those of the next size.
        ours: maps a problem and candidates to a fit; with a single candidate nothing is selected.
        plain: the same in the plain way.
        candidates: ten candidates to select from.
        candidate: maps a problem to the candidate for a single fit.
    """

    name: str
    library: str
    power: int
    ours: Callable[[Problem, Sequence[float]], Fit]
    plain: Callable[[Problem, Sequence[float]], Fit]
    candidates: Sequence[float]
    candidate: Callable[[Problem], float]


def _task(problem: Problem) -> Task:
    return Task(problem.x, problem.semi_y, None, None, SEED, threads=torch.get_num_threads())


def _expansion(fitted: Fitted) -> Fit:
    model = fitted.model
    assert isinstance(model, KernelModel)
    return plain.expansion(model.rows, model.coef, model.gamma, model.offset)


def _own_ocsvm(problem: Problem, gammas: Sequence[float]) -> Fit:
    selection: Literal["none", "holdout"] = "none" if len(gammas) == 1 else "holdout"
    return _expansion(fit_ocsvm(_task(problem), gammas=gammas, nus=[NU], nu=NU, selection=selection))


def _own_ssad(problem: Problem, gammas: Sequence[float]) -> Fit:
    selection: Literal["none", "holdout"] = "none" if len(gammas) == 1 else "holdout"
    costs = {"kappa": 1.0, "eta_u": 1.0, "eta_l": 1.0}
    return _expansion(fit_ssad(_task(problem), gammas=gammas, selection=selection, **costs))


def _own_kde(problem: Problem, bandwidths: Sequence[float]) -> Fit:
    fitted = fit_kde(_task(problem), bandwidths=bandwidths, folds=FOLDS)
    chosen = float(fitted.selection["bandwidth"])
    likelihood = float(fitted.selection["log_likelihood"][repr(chosen)])
    return Fit(chosen, lambda: likelihood, fitted.model.score)


def _plain_ocsvm(problem: Problem, gammas: Sequence[float]) -> Fit:
    if len(gammas) == 1:
        return plain.ocsvm(problem.x, gammas[0], NU)
    return plain.ocsvm_grid(problem.x, gammas, NU, SEED)


def _plain_ssad(problem: Problem, gammas: Sequence[float]) -> Fit:
    if len(gammas) == 1:
        return plain.ssad(problem.x, problem.semi_y, gammas[0])
    return plain.ssad_grid(problem.x, problem.semi_y, gammas, SEED)


def _plain_kde(problem: Problem, bandwidths: Sequence[float]) -> Fit:
    return plain.kde(problem.x, bandwidths, FOLDS, SEED)


def _scale(problem: Problem) -> float:
    return default_gamma(problem.x)


METHODS = (
    Method("OC-SVM", "OneClassSVM", 2, _own_ocsvm, _plain_ocsvm, GAMMAS, _scale),
    Method("KDE", "KernelDensity", 2, _own_kde, _plain_kde, BANDWIDTHS, lambda _: BANDWIDTHS[0]),
    Method("SSAD", "cvxopt", 3, _own_ssad, _plain_ssad, GAMMAS, _scale),
)


def compare(
    method: Method, problem: Problem, candidates: Sequence[float], expected: float, longest: float, repeats: int
) -> list[Row]:
    """Measure a method both ways on one problem; the plain way is left out if it would take too long.

    Args:
        method: the method to fit.
        problem: the data.
        candidates: a single candidate, or those to select from.
        expected: estimated seconds of the plain way, 0 if unknown.
        longest: seconds above which the plain way is not run.
        repeats: number of rounds.

    Returns:
        The row of the plain way, which is the baseline, and the row of ours.
    """
    found: dict[str, Fit] = {}

    def case(name: str, fit: Callable[[Problem, Sequence[float]], Fit]) -> Callable[[], float]:
        def run() -> float:
            def work() -> None:
                found[name] = fit(problem, candidates)

            return seconds(work)

        return run

    what = f"{method.name}, {'one' if len(candidates) == 1 else 'ten'}, {problem.name}"
    ours, library, runs = "ours", method.library, expected <= longest
    cases = {library: case(library, method.plain)} if runs else {}
    cases["ours"] = case("ours", method.ours)
    warmup = 0 if expected > _NO_WARMUP_FROM else 1
    measured = {library: [], **alternate(cases, repeats=repeats, warmup=warmup, title=what)}
    if not runs:
        notes = {library: f"not run: about {expected:.0f} s a fit, --longest is {longest:g}"}
        return rows(what, measured, baseline=library, unit="s", notes=notes)
    other, own = found[library], found[ours]
    # The offset is not unique where no support vector is free.
    reference, scores = (fit.score(problem.queries) for fit in (other, own))
    difference = float(np.ptp(scores - reference) / reference.std())
    objective = (own.objective() - other.objective()) / abs(other.objective())
    agreement: dict[str, float | str | None] = {"objective": objective, "scores": difference}
    notes = {} if own.chosen == other.chosen else {ours: f"chose {own.chosen:.3g} instead of {other.chosen:.3g}"}
    return rows(what, measured, baseline=library, unit="s", notes=notes, more={ours: agreement})


def measure(options: Options, methods: Sequence[Method], longest: float, sizes: Sequence[int]) -> list[Row]:
    """Measure methods on both kinds of data, one size after the other.

    Args:
        options: the shared options.
        methods: the methods to measure.
        longest: seconds above which a plain fit is not run.
        sizes: values of n, ascending.
    """
    found: list[Row] = []
    for make in (table, random_images if options.quick else images):
        known: dict[str, tuple[int, float]] = {}
        for n in sizes:
            problem = make(n)
            for method in methods:
                before, took = known.get(method.name, (n, 0.0))
                expected = took * (n / before) ** method.power
                single = compare(method, problem, [method.candidate(problem)], expected, longest, options.repeats)
                took = single[0].median or expected
                known[method.name] = (n, took)
                ten = compare(method, problem, method.candidates, 10 * took, longest, options.repeats)
                found += single + ten
    return found


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("shallow", __doc__)
    made.add_argument("--longest", type=float, default=60.0, help="seconds above which a plain fit is not run (60)")
    made.add_argument("--sizes", type=int, nargs="+", help=f"numbers of training rows (default: {SIZES})")
    names = [method.name for method in METHODS]
    made.add_argument("--methods", nargs="+", choices=names, default=names, help="which ones (default: all)")
    options, parsed = parse(made, arguments)
    if options.device != "cpu":
        made.error(f"--device is {options.device}, but shallow methods run on the CPU; leave it out")
    methods = [method for method in METHODS if method.name in parsed.methods]
    sizes = sorted(parsed.sizes or (QUICK_SIZES if options.quick else SIZES))
    return report("shallow", measure(options, methods, parsed.longest, sizes), options=options, notes=NOTES)


if __name__ == "__main__":
    main()
