"""The kernel density estimator: exact densities and the bandwidth that a plain loop chooses."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.shallow import models
from deepsad_pl.shallow.kde import fit_kde
from deepsad_pl.shallow.models import log_densities
from deepsad_pl.shallow.task import Fitted, Task

Matrix = npt.NDArray[np.float32]
BANDWIDTHS = [0.1, 0.3, 0.6, 1.0, 3.0]


class Untouchable:
    """Stands for labels that must not be read."""

    def __getattribute__(self, name: str) -> None:
        raise AssertionError(f"somebody looked at .{name} of the test labels")


def normal(n: int, width: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def task_of(x: Matrix, seed: int = 0, **more: object) -> Task:
    return Task(x, np.zeros(len(x), dtype=np.int64), x[:0], Untouchable(), seed, **more)  # type: ignore[arg-type]


def fit(x: Matrix, *, bandwidths: list[float] = BANDWIDTHS, folds: int = 5, seed: int = 0) -> Fitted:
    return fit_kde(task_of(x, seed), bandwidths=bandwidths, folds=folds)


def brute_force(rows: Matrix, x: Matrix, h: float) -> npt.NDArray[np.float64]:
    distance2 = ((x[:, None].astype(np.float64) - rows[None].astype(np.float64)) ** 2).sum(axis=2)
    n, width = rows.shape
    return np.asarray(logsumexp(-distance2 / (2 * h**2), axis=1) - np.log(n) - width * np.log(h * np.sqrt(2 * np.pi)))


# scikit-learn's tree search is wrong by 50 nats in D = 5 at h = 0.2.
@pytest.mark.parametrize(("width", "h"), [(1, 0.2), (1, 1.0), (2, 0.2), (2, 4.0), (5, 1.0), (5, 4.0)])
def test_low_dimensions_agree_with_scikit_learn(width: int, h: float) -> None:
    x, queries = normal(300, width), normal(200, width, seed=1)
    expected = KernelDensity(bandwidth=h, rtol=0, atol=0).fit(x).score_samples(queries)
    np.testing.assert_allclose(fit(x, bandwidths=[h]).model.score(queries), -expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("h", [1e-3, 0.05, 2**0.5, 32.0])
def test_784_dimensions_do_not_underflow(h: float) -> None:
    # exp of a log-density here is 0 in double precision for every bandwidth but the largest.
    x = np.random.default_rng(0).random((120, 784)).astype(np.float32)
    queries = np.vstack([x[:5], np.random.default_rng(1).random((60, 784)).astype(np.float32)])
    found = log_densities(x, queries, [h])[0]
    assert np.isfinite(found).all()
    # By the matrix product, a distance of 0 becomes 1e-13, since norms near 260 are rounded.
    np.testing.assert_allclose(found, brute_force(x, queries, h), rtol=1e-11, atol=1e-9 + 1e-12 / h**2)


def test_bandwidths_and_blocks_do_not_affect_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    x, queries = normal(130, 3), normal(75, 3, seed=1)
    together = log_densities(x, queries, BANDWIDTHS)
    monkeypatch.setattr(models, "_TILE", (20, 32))
    apart = np.stack([log_densities(x, queries, [h])[0] for h in BANDWIDTHS])
    np.testing.assert_allclose(apart, together, rtol=0, atol=1e-12)
    np.testing.assert_allclose(together, np.stack([brute_force(x, queries, h) for h in BANDWIDTHS]), atol=1e-10)


@pytest.mark.parametrize(("n", "folds", "seed"), [(60, 5, 0), (83, 5, 1), (40, 3, 2), (9, 9, 3)])
def test_the_bandwidth_agrees_with_a_plain_loop(n: int, folds: int, seed: int) -> None:
    # Sorted rows, so that unshuffled folds would give another result.
    x = np.sort(normal(n, 2, seed=seed + 10), axis=0)
    shuffled = np.random.default_rng([seed, 112]).permutation(n)
    total = dict.fromkeys(BANDWIDTHS, 0.0)
    for held in np.array_split(shuffled, folds):
        kept = np.array([i for i in range(n) if i not in set(held)])
        for h in BANDWIDTHS:
            total[h] += KernelDensity(bandwidth=h, rtol=0, atol=0).fit(x[kept]).score(x[held])
    fitted = fit(x, folds=folds, seed=seed)
    record = json.loads(json.dumps(fitted.selection))
    assert record["bandwidth"] == max(total, key=total.__getitem__)
    assert (record["protocol"], record["folds"]) == ("cross_validation", folds)
    for h in BANDWIDTHS:
        assert record["log_likelihood"][repr(h)] == pytest.approx(total[h] / n, rel=1e-9)
    queries = normal(20, 2, seed=7)
    np.testing.assert_allclose(fitted.model.score(queries), -brute_force(x, queries, record["bandwidth"]), atol=1e-10)


def test_of_equally_good_bandwidths_the_first_is_chosen() -> None:
    assert fit(normal(20, 2), bandwidths=[0.5, 0.5]).selection["bandwidth"] == 0.5


def test_only_the_seed_decides() -> None:
    x = normal(50, 2)
    assert fit(x, seed=1).selection == fit(x, seed=1).selection
    assert fit(x, seed=1).selection["log_likelihood"] != fit(x, seed=2).selection["log_likelihood"]


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    fit_kde(task_of(normal(20, 2), advance=shares.append), bandwidths=BANDWIDTHS, folds=4)
    assert shares == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("n", "folds"), [(4, 5), (20, 1), (1, 5)])
def test_impossible_folds_are_refused(n: int, folds: int) -> None:
    with pytest.raises(DeepSADError, match=f"method.folds is {folds} with {n} training row"):
        fit(normal(n, 2), folds=folds)


@pytest.mark.parametrize("bandwidths", [[], [1.0, 0.0]])
def test_impossible_bandwidths_are_refused(bandwidths: list[float]) -> None:
    with pytest.raises(DeepSADError, match=r"method\.bandwidths is"):
        fit(normal(20, 2), bandwidths=bandwidths)
