"""The data and criteria of the selection, and a grid that survives a kill."""

import logging
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.metrics import auroc
from deepsad_pl.shallow import kernel_grid as grid
from deepsad_pl.shallow import selection
from deepsad_pl.shallow.kernel_grid import Machine, Matrix, Point, Solution, default_gamma, fit_grid, solve_grid
from deepsad_pl.shallow.selection import IntArray, consistency, holdout_split
from deepsad_pl.shallow.task import Fitted, Task

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
X_TEST = RNG.normal(size=(80, 3)).astype(np.float32)
Y_TEST = (np.arange(80) % 3 == 0).astype(np.int64)
ZEROS = np.zeros(60, dtype=np.int64)


# --- The parts of the data.


@quick
@given(st.integers(1, 400), st.integers(1, 400), seeds)
def test_the_subset_is_stratified_and_holds_both_classes(normals: int, anomalies: int, seed: int) -> None:
    y = np.random.default_rng(3).permutation(np.repeat([0, 1], [normals, anomalies]))
    drawn = selection.test_subset(y, seed)
    assert (np.diff(drawn) > 0).all()
    assert (y[drawn] == 0).sum() == max(1, round(0.1 * normals))
    assert (y[drawn] == 1).sum() == max(1, round(0.1 * anomalies))
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(selection.test_subset(y, seed), drawn)


def test_the_subset_depends_only_on_its_own_random_stream() -> None:
    y = (np.arange(1000) % 10 == 0).astype(np.int64)
    rng = np.random.default_rng([7, 110])
    expected = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:k] for c, k in ((0, 90), (1, 10))])
    assert np.array_equal(selection.test_subset(y, 7), np.sort(expected))
    assert not np.array_equal(selection.test_subset(y, 7), selection.test_subset(y, 8))
    streams = {selection.TEST_SUBSET_STREAM, selection.HOLDOUT_STREAM}
    streams |= {selection.KDE_FOLDS_STREAM, selection.FOREST_STREAM, selection.ANOMALY_FOLDS_STREAM}
    assert streams == {110, 111, 112, 113, 114}


@pytest.mark.parametrize(("label", "name"), [(0, "anomalous"), (1, "normal")])
def test_a_subset_without_a_class_is_refused(label: int, name: str) -> None:
    with pytest.raises(DeepSADError, match=f"but none of its 5 samples is {name}; use selection=holdout or none"):
        selection.test_subset(np.full(5, label), 0)


@quick
@given(st.integers(0, 120), st.integers(0, 30), st.integers(0, 40), seeds)
def test_the_holdout_is_stratified(unlabeled: int, normals: int, anomalies: int, seed: int) -> None:
    semi_y = np.random.default_rng(3).permutation(np.repeat([0, 1, -1], [unlabeled, normals, anomalies]))
    if unlabeled + normals < 2:
        with pytest.raises(DeepSADError, match="needs at least two training rows"):
            holdout_split(semi_y, seed)
        return
    kept, held = holdout_split(semi_y, seed)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(semi_y)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    for label, count in ((0, unlabeled), (1, normals), (-1, anomalies)):
        assert abs((semi_y[held] == label).sum() - 0.1 * count) <= 1
    assert (semi_y[kept] != -1).any()
    assert (semi_y[held] != -1).any()
    assert (semi_y[held] == -1).any() == (anomalies >= 2)
    again = holdout_split(semi_y, seed)
    assert np.array_equal(again[0], kept)
    assert np.array_equal(again[1], held)


def test_the_holdout_changes_with_the_seed() -> None:
    assert not np.array_equal(holdout_split(ZEROS, 0)[1], holdout_split(ZEROS, 1)[1])


# --- The criteria.


@pytest.mark.parametrize(
    ("rejected", "expected"),
    [
        # The bound is 0.1 + 2 sqrt(0.1 * 0.9 / 100) = 0.16; gammas are 2, 8, 1, 4.
        ([0.05, 0.161, 0.0, 0.159], 3),
        ([0.05, 0.16, 0.0, 0.159], 1),
        ([0.16, 0.99, 0.99, 0.5], 0),
        ([0.5, 0.6, 0.17, 0.4], 2),
        ([0.0, 0.0, 0.9, 0.9], 1),
    ],
)
def test_consistency_chooses_the_most_complex_consistent_model(rejected: list[float], expected: int) -> None:
    assert consistency([2, 8, 1, 4], rejected, nu=0.1, held_out=100) == expected


@quick
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auroc_equals_scikit_learns(samples: list[tuple[int, bool]]) -> None:
    scores, y = np.array([s for s, _ in samples], dtype=np.float64), np.array([int(b) for _, b in samples])
    if 0 < y.sum() < len(y):
        assert auroc(scores, y) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


def test_equal_counts_of_pairs_are_equal_areas() -> None:
    # Two rankings with one wrong pair each; rounding must not decide between them.
    y = np.array([0] * 49 + [1] * 61)
    ordered = np.arange(110.0)
    a, b = ordered.copy(), ordered.copy()
    a[[48, 49]] = a[[49, 48]]
    b[48] = 49.0
    b[49] = 48.5
    assert auroc(a, y) == auroc(b, y) == 1 - 1 / (49 * 61)


# --- The grid.


class Counting(Machine):
    """A Parzen window cut at ``outer`` rows, which counts its solutions and may fail."""

    outer_name = "rows"

    def __init__(self, *, dies_after: int | None = None, name: str = "counting") -> None:
        self.solved: list[tuple[float, float | None]] = []
        self.dies_after, self.name, self.lock = dies_after, name, threading.Lock()
        self.begun = self.running = self.most_running = 0

    def settings(self) -> dict[str, Any]:
        return {"name": self.name}

    def solve(self, kernel: grid.FloatArray, semi_y: IntArray, outer: float | None) -> Solution:
        with self.lock:
            self.begun += 1
            dead = self.dies_after is not None and len(self.solved) >= self.dies_after
            if not dead:
                self.solved.append((float(kernel[0, 1]), outer))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        if dead:
            # Long enough for the caller to see that the previous one has died.
            time.sleep(0.05)
            raise RuntimeError("killed")
        # Later points finish sooner.
        time.sleep(0.002 * (20 - min(20, len(self.solved))))
        support = np.arange(int(outer or 1))
        with self.lock:
            self.running -= 1
        return Solution(support, kernel[support].mean(axis=1), float(kernel.mean()))

    def solve_rows(self, x: Matrix, semi_y: IntArray, point: Point, threads: int) -> Solution:
        distance2 = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(axis=2)
        return self.solve(np.exp(-point.gamma * distance2), semi_y, point.outer)

    def reject_rate(self, semi_y: IntArray, outer: float | None) -> float:
        return 0.5


def task_of(folder: Path | None = None, **more: Any) -> Task:
    return Task(**{"x": X, "semi_y": ZEROS, "x_test": X_TEST, "y_test": Y_TEST, "seed": 0, "grid_dir": folder, **more})


GAMMAS, OUTERS = [0.1, 0.5, 2.0], [3.0, 20.0, 60.0]
POINTS = [Point(gamma, outer) for gamma in GAMMAS for outer in OUTERS]


def solve(task: Task, machine: Machine, semi_y: IntArray = ZEROS) -> list[Solution]:
    return solve_grid(task, machine, task.x, semi_y, POINTS, lambda: None)


def fit(task: Task, machine: Machine | None = None, selection: str = "test_subset", **change: Any) -> Fitted:
    wish: dict[str, Any] = {"semi_y": ZEROS, "gammas": GAMMAS, "outers": OUTERS, "outer": 20.0, **change}
    return fit_grid(task, machine or Counting(), selection=selection, **wish)


def same(a: list[Solution], b: list[Solution]) -> bool:
    return all(
        s.offset == t.offset and s.coef.tobytes() == t.coef.tobytes() and np.array_equal(s.support, t.support)
        for s, t in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dies_after", [0, 1, 4, 8])
def test_a_killed_grid_resumes(threads: int, dies_after: int, tmp_path: Path) -> None:
    whole = solve(task_of(), Counting())
    task = task_of(tmp_path / "grid", threads=threads)
    with pytest.raises(RuntimeError, match="killed"):
        solve(task, Counting(dies_after=dies_after))
    second = Counting()
    assert same(solve(task, second), whole)
    assert len(second.solved) == 9 - dies_after
    third = Counting()
    assert same(solve(task, third), whole)
    assert third.solved == []


def test_after_a_failure_no_further_point_is_started() -> None:
    machine = Counting(dies_after=2)
    with pytest.raises(RuntimeError, match="killed"):
        solve(task_of(), machine)
    assert machine.begun < len(POINTS) - 2


def damage(path: Path, how: str) -> None:
    content = dict(np.load(path))
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        change = {
            "foreign": {"support": content["support"].astype(np.float64)},
            "no row": {"support": content["support"] + 60},
            "unsorted": {"support": content["support"][::-1]},
            "nan": {"offset": np.asarray(np.nan)},
            "lengths": {"coef": content["coef"][:-1]},
        }[how]
        np.savez(path, **{**content, **change})


@pytest.mark.parametrize("how", ["cut", "empty", "foreign", "no row", "unsorted", "nan", "lengths"])
def test_a_damaged_solution_is_solved_again(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = solve(task_of(tmp_path), Counting())
    path = sorted(tmp_path.iterdir())[4]
    damage(path, how)
    again = Counting()
    with caplog.at_level(logging.WARNING):
        assert same(solve(task_of(tmp_path), again), whole)
    assert len(again.solved) == 1
    assert [r.levelname for r in caplog.records if "it is solved again" in r.message] == ["WARNING"]
    assert solve(task_of(tmp_path), untouched := Counting())
    assert untouched.solved == []
    damage(path, how)
    with pytest.raises(RuntimeError, match="killed"):
        solve(task_of(tmp_path), Counting(dies_after=0))
    assert not path.exists()


def test_solutions_of_another_problem_are_not_reused(tmp_path: Path) -> None:
    solve(task_of(tmp_path), Counting())
    moved = X.copy()
    moved[7, 1] = np.nextafter(moved[7, 1], np.float32(9))
    relabeled = ZEROS.copy()
    relabeled[3] = -1
    for task, name, semi_y in (
        (task_of(tmp_path, x=moved), "counting", ZEROS),
        (task_of(tmp_path), "other settings", ZEROS),
        (task_of(tmp_path), "counting", relabeled),
        (task_of(tmp_path, x=X.reshape(30, 6)), "counting", ZEROS),
    ):
        machine = Counting(name=name)
        solve_grid(task, machine, task.x, semi_y, [Point(0.1, 3.0)], lambda: None)
        assert len(machine.solved) == 1
    assert len(list(tmp_path.iterdir())) == 13


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(task_of())
    assert not list(tmp_path.iterdir())


def test_threads_solve_in_parallel_and_change_nothing() -> None:
    alone, together = Counting(), Counting()
    a, b = fit(task_of(), alone), fit(task_of(threads=3), together)
    assert (alone.most_running, together.most_running) == (1, 3)
    assert a.selection == b.selection
    assert a.model.score(X_TEST).tobytes() == b.model.score(X_TEST).tobytes()


def test_each_point_gets_its_kernel() -> None:
    machine = Counting()
    solve(task_of(threads=3), machine)
    distance2 = float(((X[0].astype(np.float64) - X[1]) ** 2).sum())
    expected = sorted((np.exp(-p.gamma * distance2), p.outer) for p in POINTS)
    np.testing.assert_allclose(sorted(machine.solved), expected, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_kernel_is_computed_once_and_released(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[grid.FloatArray]] = []
    alive: list[int] = []
    kernel_of = grid.gaussian_kernel

    def slowly(*arguments: Any, **more: Any) -> grid.FloatArray:
        alive.append(sum(kernel() is not None for kernel in made))
        time.sleep(0.01)
        kernel = kernel_of(*arguments, **more)
        made.append(weakref.ref(kernel))
        return kernel

    monkeypatch.setattr(grid, "gaussian_kernel", slowly)
    solve(task_of(threads=threads), Counting())
    assert len(made) == len(GAMMAS)
    assert max(alive) <= threads - 1
    assert not any(kernel() is not None for kernel in made)


def test_kernels_in_use_are_bounded_by_memory_and_not_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []

    class Watched(grid._Kernels):
        def acquire(self, gamma: float) -> grid.FloatArray:
            kernel = super().acquire(gamma)
            alive.append(len(self._ready))
            time.sleep(0.005)
            return kernel

    monkeypatch.setattr(grid, "_Kernels", Watched)
    expected = solve(task_of(threads=1), Counting())
    for kernels in (1, 2):
        alive.clear()
        monkeypatch.setattr(grid, "KERNEL_BYTES", kernels * 8 * len(X) ** 2)
        assert same(solve(task_of(threads=8), Counting()), expected)
        assert max(alive) == kernels


def test_only_one_model_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0
    model_of = Solution.model

    def watched(self: Solution, x: Matrix, gamma: float) -> Any:
        nonlocal most
        model = model_of(self, x, gamma)
        alive.append(weakref.ref(model))
        most = max(most, sum(ref() is not None for ref in alive))
        return model

    monkeypatch.setattr(Solution, "model", watched)
    fit(task_of())
    assert len(alive) > len(POINTS)
    assert most == 1


def test_rows_are_solved_where_the_kernel_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    held = fit(task_of()).model.score(X_TEST)
    monkeypatch.setattr(grid, "MAX_PRECOMPUTED_ROWS", 59)
    monkeypatch.setattr(grid, "squared_distances", None)
    np.testing.assert_allclose(fit(task_of()).model.score(X_TEST), held, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("protocol", "steps"), [("test_subset", 9), ("holdout", 4), ("none", 1)])
def test_progress_ends_at_one(protocol: str, steps: int, tmp_path: Path) -> None:
    for _ in ("solved", "found"):
        shares: list[float] = []
        fit(task_of(tmp_path, advance=shares.append, threads=2), selection=protocol)
        assert shares == [(i + 1) / steps for i in range(steps)]


def test_of_equally_good_points_the_first_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "auroc", lambda scores, y: 0.5)
    for gammas, outers in ((GAMMAS, OUTERS), (GAMMAS[::-1], OUTERS[::-1])):
        record = fit(task_of(threads=3), gammas=gammas, outers=outers).selection
        assert (record["gamma"], record["rows"]) == (gammas[0], outers[0])


def test_repeated_values_are_solved_once() -> None:
    machine = Counting()
    fit(task_of(), machine, gammas=[0.1, 0.1], outers=[3.0, 3])
    assert len(machine.solved) == 1


@pytest.mark.parametrize("change", [{"gammas": []}, {"outers": []}, {"gammas": [1.0, 0.0]}])
def test_an_impossible_grid_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DeepSADError, match=r"method\.gammas is"):
        fit(task_of(), **change)
    fit(task_of(), selection="none", **change)


@pytest.mark.parametrize("name", ["", "test", "None"])
def test_an_unknown_protocol_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="selection is '"):
        fit(task_of(), selection=name)


def test_constant_rows_have_a_default_scale() -> None:
    assert default_gamma(np.ones((5, 3), dtype=np.float32)) == 1.0
    x: npt.NDArray[np.float32] = RNG.normal(3, 2, size=(500, 4)).astype(np.float32)
    assert default_gamma(x) == pytest.approx(1 / (4 * x.astype(np.float64).var()), rel=1e-12)
