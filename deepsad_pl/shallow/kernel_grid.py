"""Solve kernel machines over a grid of hyper-parameters, in parallel and resumable, and select the best one.

A machine is solved for every pair of a kernel scale gamma and an outer value (nu for the OC-SVM; SSAD has none).
Solutions are small, so each is stored as soon as it is found and reused when the same problem comes up again: its file
name contains a digest of the training rows, their labels and the machine's settings.

There are three protocols of selection. ``test_subset`` is the paper's "unfair advantage" (appendix C): for each outer
value it takes the gamma with the highest AUROC on a tenth of the test set, and among these pairs the one with the
highest AUROC on the whole test set. ``holdout`` uses training data only: it maximizes the AUROC of held-out labeled
anomalies against the other held-out rows or, if no labeled anomaly is held out, applies the consistency criterion of
Tax and Mueller (2004); then it fits all rows once. ``none`` is a single fit with scikit-learn's default scale,
1 / (D var(x)).

With given labels (``Task.holdout_folds``), ``holdout`` is a cross-validation over the labeled anomalies: each fold is
scored by a machine that was solved without it. The criterion is the mean of the folds' AUROCs, not the AUROC of all
scores together, because scores of different fits are not comparable: each has its own offset and scale. With fewer than
two labeled anomalies nothing can be held out, and ``holdout`` does what ``none`` does.
"""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.arrays import read_arrays, write_arrays
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.metrics import auroc
from deepsad_pl.shallow import selection as select
from deepsad_pl.shallow.kernels import FloatArray, gaussian_kernel, squared_distances
from deepsad_pl.shallow.models import KernelModel
from deepsad_pl.shallow.selection import IntArray
from deepsad_pl.shallow.task import Fitted, Task

Matrix = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

# With more rows, the matrix of distances and each kernel (one per thread) would take more than 0.8 GB each.
MAX_PRECOMPUTED_ROWS = 10_000

# Memory limit for all kernels that are in use at once; one kernel is always allowed.
KERNEL_BYTES = 640 * 2**20

# Incremented when the meaning of a stored solution changes.
_STORE_FORMAT = 1


@dataclass(frozen=True)
class Point:
    """A point of the grid: the kernel's scale, and the machine's own hyper-parameter or None if it has none."""

    gamma: float
    outer: float | None = None


@dataclass(frozen=True)
class Solution:
    """A kernel expansion: the score is the offset minus a weighted sum of kernel values with the support vectors.

    Attributes:
        support: ascending indices of the support vectors among the training rows, shape (s,).
        coef: their weights, shape (s,).
        offset: rho.
    """

    support: IntArray
    coef: FloatArray
    offset: float

    def model(self, x: Matrix, gamma: float) -> KernelModel:
        """Build the detector from the training rows that ``support`` refers to."""
        return KernelModel(x[self.support], self.coef, gamma, self.offset)


class Machine(ABC):
    """A kernel machine that can be solved over a grid; its methods must be thread-safe.

    Attributes:
        outer_name: name of its own hyper-parameter in records, or None if it has none.
    """

    outer_name: ClassVar[str | None] = None

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All other settings that a solution depends on; they enter the digest as JSON."""

    @abstractmethod
    def solve(self, kernel: FloatArray, semi_y: IntArray, outer: float | None) -> Solution:
        """Solve on a precomputed kernel, shape (n, n).

        All outer values share the kernel; a machine without outer values may overwrite it.
        """

    @abstractmethod
    def solve_rows(self, x: Matrix, semi_y: IntArray, point: Point, threads: int) -> Solution:
        """Solve from the rows, when the kernel is too large; ``threads`` concurrent solves share the memory."""

    @abstractmethod
    def reject_rate(self, semi_y: IntArray, outer: float | None) -> float:
        """The share of normal training rows that a fit without labeled anomalies may reject, in (0, 1]."""


def fit_grid(
    task: Task,
    machine: Machine,
    *,
    semi_y: IntArray,
    gammas: Sequence[float],
    outers: Sequence[float | None],
    outer: float | None,
    selection: str,
) -> Fitted:
    """Fit a machine, with its hyper-parameters selected by one of the protocols.

    Args:
        task: training data and resources.
        machine: the machine to fit.
        semi_y: the labels that the machine may see, shape (n,).
        gammas: candidate kernel scales, at least one, each > 0; in a tie the first one is selected.
        outers: candidates for the machine's own hyper-parameter with ``test_subset``, at least one.
        outer: value of the machine's own hyper-parameter with ``holdout`` and ``none``.
        selection: ``test_subset``, ``holdout`` or ``none``.

    Raises:
        ValueError: if the selection is unknown.
        DeepSADError: if there are no candidates, a gamma is not positive, or the data do not suit the protocol.
    """
    if selection not in ("test_subset", "holdout", "none"):
        raise ValueError(f"selection is {selection!r}; it must be test_subset, holdout or none")
    gammas, outers = list(dict.fromkeys(map(float, gammas))), list(dict.fromkeys(outers))
    if selection != "none" and (not gammas or not outers or min(gammas) <= 0):
        raise DeepSADError(
            f"method.gammas is {gammas} (with {counted(len(outers), machine.outer_name or 'variant')}), but a grid "
            "needs at least one value of each and gamma > 0; change them or use method.selection=none"
        )
    if selection == "test_subset":
        return _fit_by_test_subset(task, machine, semi_y, gammas, outers)
    if selection == "holdout" and task.holdout_folds is None:
        return _fit_by_holdout(task, machine, semi_y, gammas, outer)
    if selection == "holdout":
        return _fit_by_folds(task, machine, semi_y, gammas, outer)
    return _fit_default(task, machine, semi_y, outer)


def _fit_default(task: Task, machine: Machine, semi_y: IntArray, outer: float | None) -> Fitted:
    point = Point(default_gamma(task.x), outer)
    (solution,) = solve_grid(task, machine, task.x, semi_y, [point], _progress(task, 1))
    return Fitted(solution.model(task.x, point.gamma), {"protocol": "none", **_named(machine, point), "grid": []})


def default_gamma(x: Matrix) -> float:
    """The kernel scale of scikit-learn's ``gamma="scale"``, 1 / (D var(x)); 1 if x is constant."""
    variance = float(np.var(x, dtype=np.float64))
    return 1 / (x.shape[1] * variance) if variance > 0 else 1.0


def solve_grid(
    task: Task, machine: Machine, x: Matrix, semi_y: IntArray, points: Sequence[Point], solved: Callable[[], None]
) -> list[Solution]:
    """Solve a machine at every point, ``task.threads`` at a time, reusing the solutions that an earlier run stored.

    Args:
        task: only its ``threads`` and ``grid_dir`` are used.
        machine: the machine to solve.
        x: training rows, shape (n, D).
        semi_y: their semi-labels, shape (n,).
        points: points of the grid, without duplicates; points with the same gamma should be adjacent, since they share
            a kernel.
        solved: called in the calling thread once per point, whether it was solved or loaded.

    Returns:
        One solution per point, in the order of the points; the same for any number of threads.
    """
    store = _Store(task.grid_dir, machine, x, semi_y) if task.grid_dir else None
    found = {point: solution for point in points if store and (solution := store.load(point))}
    if found:
        log.info("%d of %d solutions of the grid are already stored", len(found), len(points))
    for _ in found:
        solved()
    missing = [point for point in points if point not in found]
    kernels = _Kernels(x, missing) if missing and len(x) <= MAX_PRECOMPUTED_ROWS else None

    def solve(point: Point) -> Solution:
        if kernels is None:
            solution = machine.solve_rows(x, semi_y, point, task.threads)
        else:
            try:
                solution = machine.solve(kernels.acquire(point.gamma), semi_y, point.outer)
            finally:
                kernels.release(point.gamma)
        if store:
            store.save(point, solution)
        return solution

    pool = ThreadPoolExecutor(task.threads, thread_name_prefix="grid")
    try:
        futures = {pool.submit(solve, point): point for point in missing}
        for future in as_completed(futures):
            found[futures[future]] = future.result()
            solved()
    finally:
        # After a failure or Ctrl-C, no further point is started.
        pool.shutdown(cancel_futures=True)
    return [found[point] for point in points]


def _fit_by_test_subset(
    task: Task, machine: Machine, semi_y: IntArray, gammas: Sequence[float], outers: Sequence[float | None]
) -> Fitted:
    if task.x_test is None or task.y_test is None:
        raise ValueError("selection is 'test_subset', but the task has no test set")
    x_test, y_test = task.x_test, task.y_test
    subset = select.test_subset(y_test, task.seed)
    points = [Point(gamma, outer) for gamma in gammas for outer in outers]
    solutions = solve_grid(task, machine, task.x, semi_y, points, _progress(task, len(points)))
    found = dict(zip(points, solutions, strict=True))

    # One model at a time: each holds a copy of its support vectors, which at large gammas are all rows.
    def auroc_of(point: Point, x: Matrix, y: IntArray) -> float:
        return auroc(found[point].model(task.x, point.gamma).score(x), y)

    x_subset, y_subset = x_test[subset], y_test[subset]
    on_subset = {point: auroc_of(point, x_subset, y_subset) for point in points}
    final: dict[Point, float] = {}
    for outer in outers:
        # In a tie, max() takes the first one.
        point = max((Point(gamma, outer) for gamma in gammas), key=on_subset.__getitem__)
        final[point] = auroc_of(point, x_test, y_test)
    best = max(final, key=final.__getitem__)
    record = {
        "protocol": "test_subset",
        **_named(machine, best),
        "subset_size": len(subset),
        "grid": [
            {**_named(machine, Point(gamma, outer)), "auroc_subset": on_subset[Point(gamma, outer)]}
            for outer in outers
            for gamma in gammas
        ],
        "final": [{**_named(machine, point), "auroc": value} for point, value in final.items()],
    }
    return Fitted(found[best].model(task.x, best.gamma), record)


def _fit_by_holdout(
    task: Task, machine: Machine, semi_y: IntArray, gammas: Sequence[float], outer: float | None
) -> Fitted:
    kept, held = select.holdout_split(semi_y, task.seed)
    points = [Point(gamma, outer) for gamma in gammas]
    progress = _progress(task, len(points) + 1)
    x, x_held, anomalous = task.x[kept], task.x[held], (semi_y[held] == -1).astype(np.int64)
    solutions = solve_grid(task, machine, x, semi_y[kept], points, progress)
    scores = [s.model(x, point.gamma).score(x_held) for point, s in zip(points, solutions, strict=True)]
    record: dict[str, Any] = {"protocol": "holdout", "held_out": len(held)}
    if anomalous.any():
        values = [auroc(score, anomalous) for score in scores]
        chosen = int(np.argmax(values))
        record |= {"criterion": "auroc_held_out"}
    else:
        nu = machine.reject_rate(semi_y[kept], outer)
        values = [float((score > 0).mean()) for score in scores]
        chosen = select.consistency(gammas, values, nu=nu, held_out=len(held))
        record |= {"criterion": "rejected_held_out", "reject_rate": nu}
    best = points[chosen]
    (solution,) = solve_grid(task, machine, task.x, semi_y, [best], progress)
    grid = [{**_named(machine, p), record["criterion"]: value} for p, value in zip(points, values, strict=True)]
    return Fitted(solution.model(task.x, best.gamma), {**record, **_named(machine, best), "grid": grid})


def _fit_by_folds(
    task: Task, machine: Machine, semi_y: IntArray, gammas: Sequence[float], outer: float | None
) -> Fitted:
    assert task.holdout_folds is not None
    folds = select.anomaly_folds(semi_y, task.seed, task.holdout_folds)
    if not folds:
        anomalies = int((semi_y == -1).sum())
        log.warning(
            "method.selection=holdout needs two labeled anomalies, but there %s %d, so the default scale of the kernel "
            "is used, as with method.selection=none",
            "is" if anomalies == 1 else "are",
            anomalies,
        )
        fitted = _fit_default(task, machine, semi_y, outer)
        return Fitted(fitted.model, {**fitted.selection, "requested": "holdout", "labeled_anomalies": anomalies})
    points = [Point(gamma, outer) for gamma in gammas]
    progress = _progress(task, len(folds) * len(points) + 1)
    of_folds: list[list[float]] = [[] for _ in points]
    for held in folds:
        kept = np.setdiff1d(np.arange(len(semi_y)), held)
        x, x_held, anomalous = task.x[kept], task.x[held], (semi_y[held] == -1).astype(np.int64)
        solutions = solve_grid(task, machine, x, semi_y[kept], points, progress)
        for values, point, solution in zip(of_folds, points, solutions, strict=True):
            values.append(auroc(solution.model(x, point.gamma).score(x_held), anomalous))
    # An exact sum, so that the order of the folds does not decide a tie.
    means = [fsum(values) / len(folds) for values in of_folds]
    best = points[int(np.argmax(means))]
    (solution,) = solve_grid(task, machine, task.x, semi_y, [best], progress)
    record = {
        "protocol": "holdout",
        "folds": len(folds),
        "criterion": "mean_auroc_of_folds",
        **_named(machine, best),
        "grid": [
            {**_named(machine, point), "mean_auroc_of_folds": mean, "auroc_of_folds": values}
            for point, mean, values in zip(points, means, of_folds, strict=True)
        ],
    }
    return Fitted(solution.model(task.x, best.gamma), record)


def _named(machine: Machine, point: Point) -> dict[str, float | None]:
    return {"gamma": point.gamma} | ({machine.outer_name: point.outer} if machine.outer_name else {})


def _progress(task: Task, total: int) -> Callable[[], None]:
    done = 0

    def solved() -> None:
        nonlocal done
        done += 1
        task.advance(done / total)

    return solved


class _Kernels:
    """The matrix of distances, and the kernel of each gamma for as long as a solver uses it."""

    def __init__(self, x: Matrix, points: Sequence[Point]) -> None:
        self._distance2 = squared_distances(x)
        self._users = Counter(point.gamma for point in points)
        self._alone = len(self._users) == 1
        self._building = {gamma: Lock() for gamma in self._users}
        # Limits the kernels in memory: a solver that needs one more waits until another kernel is released.
        self._room = BoundedSemaphore(max(1, KERNEL_BYTES // (8 * len(x) ** 2)))
        self._ready: dict[float, FloatArray] = {}
        self._counting = Lock()

    def acquire(self, gamma: float) -> FloatArray:
        # One lock per gamma: a solver waits only for the kernel that it needs.
        with self._building[gamma]:
            if gamma not in self._ready:
                self._room.acquire()
                try:
                    out = self._distance2 if self._alone else None
                    self._ready[gamma] = gaussian_kernel(self._distance2, gamma, out=out)
                except BaseException:
                    self._room.release()
                    raise
            return self._ready[gamma]

    def release(self, gamma: float) -> None:
        with self._counting:
            self._users[gamma] -= 1
            if self._users[gamma] == 0 and self._ready.pop(gamma, None) is not None:
                self._room.release()


class _Store:
    """The stored solutions of one problem, in a folder that may also hold those of other problems."""

    def __init__(self, folder: Path, machine: Machine, x: Matrix, semi_y: IntArray) -> None:
        described = {"format": _STORE_FORMAT, "machine": machine.settings(), "shape": x.shape, "dtype": str(x.dtype)}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        for array in (x, semi_y):
            digest.update(np.ascontiguousarray(array).data)
        self._folder, self._digest, self._rows = folder, digest.hexdigest()[:32], len(x)
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, point: Point) -> Solution | None:
        path = self._path(point)
        try:
            return self._checked(read_arrays(path))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            log.warning("The stored solution %s is damaged (%s); it is solved again", path, error)
            path.unlink(missing_ok=True)
            return None

    def save(self, point: Point, solution: Solution) -> None:
        offset = np.asarray(solution.offset, dtype=np.float64)
        write_arrays(self._path(point), {"support": solution.support, "coef": solution.coef, "offset": offset})

    def _path(self, point: Point) -> Path:
        # repr writes a float exactly.
        return self._folder / f"{self._digest}_{point.gamma!r}_{point.outer!r}.npz"

    def _checked(self, arrays: dict[str, npt.NDArray[Any]]) -> Solution:
        support, coef, offset = arrays["support"], arrays["coef"], arrays["offset"]
        if [array.dtype.str for array in (support, coef, offset)] != ["<i8", "<f8", "<f8"]:
            raise ValueError("unexpected types")
        if support.ndim != 1 or coef.shape != support.shape or offset.shape != ():
            raise ValueError("unexpected shapes")
        if not (np.diff(support, prepend=-1, append=self._rows) > 0).all():
            raise ValueError("indices that are not ascending row numbers")
        if not (np.isfinite(coef).all() and np.isfinite(offset)):
            raise ValueError("values that are not finite")
        return Solution(support, coef, float(offset))
