"""AUROC, average precision and seconds of our methods and of other libraries' on the same rows and labels.

Everybody gets the same standardised training rows, known anomalies and test rows. All run in turn in one process, with
one thread unless ``--threads`` says otherwise, and with their own defaults. A library that is not installed is skipped.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, pstdev

from benchmarks.harness import Row, alternate, quiet_console, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.peer_models import INSTALL, PEERS, Peer, Problem, Scores
from benchmarks.report import report
from deepsad_pl import run
from deepsad_pl.common.metrics import detection_metrics
from deepsad_pl.compose.composer_at import composer_at
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.fit_shallow import features
from deepsad_pl.experiment.plan import make_plan

BASELINE = "deep_sad"
# Our methods, with the overrides that choose them.
OURS: Mapping[str, tuple[str, ...]] = {
    BASELINE: ("method=deep_sad",),
    "deep_sad, eta=30": ("method=deep_sad", "method.eta=30"),
    **{
        name: (f"method={name}",)
        for name in ("devnet", "prenet", "feawad", "rosas", "hsc", "deep_svdd", "xgbod", "trees", "knn_ratio_raw")
    },
}
DATASETS = ("cardio", "thyroid", "satellite", "satimage-2", "arrhythmia")
NOTES = (
    "AUROC and average precision in percent, mean and standard deviation over the seeds. Seconds: training, "
    "pre-training and scoring of the test rows, without loading data and start-up; one value per seed.",
    "All have the same training rows, known anomalies and test rows, standardised by the training rows; deep_svdd and "
    "PyOD DeepSVDD do not see the known anomalies.",
)
_LIBRARIES = ("deepod", "pyod", "xgboost", "scikit-learn")


@dataclass(frozen=True)
class Cell:
    """What all peers are run on.

    Attributes:
        dataset: choice of ``dataset``.
        seed: determines the split, the known anomalies and all random draws of a method.
        quick: whether to train networks for one epoch only.
    """

    dataset: str
    seed: int
    quick: bool = False

    def overrides(self) -> list[str]:
        """The overrides of train.py."""
        words = [f"dataset={self.dataset}", f"seed={self.seed}", "scenario.gamma_l=0.01", "scenario.gamma_p=0"]
        return [*words, "logger=none", "trainer=cpu", *(["trainer.max_epochs=1"] if self.quick else [])]

    def problem(self) -> tuple[Problem, Sequence[int]]:
        """The rows and labels that our methods see, and the truth of the test rows: 0 normal, 1 anomaly."""
        plan = make_plan(composer_at().settings([*self.overrides(), *OURS[BASELINE]]))
        data = build(plan, load_data(plan)).data
        train, test = features(data.ordered_dataloader(), None), features(data.test_dataloader(), None)
        return Problem(train, data.semi_y == -1, test, self.seed, self.quick), data.test_y.tolist()


@dataclass(frozen=True)
class Measured:
    """Result of a method in one cell: two metrics in percent, and seconds."""

    auroc: float
    average_precision: float
    seconds: float


def measure_ours(cell: Cell, method: Sequence[str], threads: int) -> Measured:
    """Run one of our methods in a folder of its own, so that nothing is reused."""
    with tempfile.TemporaryDirectory() as folder, quiet_console():
        words = [*cell.overrides(), *method, f"trainer.threads={threads}", f"output_dir={folder}"]
        record = run(overrides=words).record
    took = sum(record["seconds"].values())
    return Measured(100 * record["auroc"], 100 * record["average_precision"], took)


def measure_peer(cell: Cell, peer: Peer) -> Measured:
    """Run a model of another library on the same rows and labels."""
    problem, truth = cell.problem()
    found: list[Scores] = []
    took = seconds(lambda: found.append(peer.run(problem)))
    metrics = detection_metrics(found[0], truth)
    return Measured(100 * metrics["auroc"], 100 * metrics["average_precision"], took)


def compare(dataset: str, seeds: Sequence[int], names: Iterable[str], options: Options, threads: int) -> list[Row]:
    """Run all methods in turn, one seed after the other.

    Args:
        dataset: choice of ``dataset``.
        seeds: the seeds.
        names: some of :data:`OURS` and :data:`~benchmarks.peer_models.PEERS`.
        options: the shared options.
        threads: number of threads of our methods.

    Returns:
        One row per method; that of a library that is not installed has no values, and a note on how to install it.
    """
    results: dict[str, list[Measured]] = {}
    missing: dict[str, str] = {}

    def case(name: str) -> Callable[[], float]:
        found = results.setdefault(name, [])

        def measured() -> float:
            cell = Cell(dataset, seeds[len(found)], options.quick)
            one = measure_ours(cell, OURS[name], threads) if name in OURS else measure_peer(cell, PEERS[name])
            found.append(one)
            return one.seconds

        return measured

    cases: dict[str, Callable[[], float]] = {}
    for name in names:
        lacking = PEERS[name].missing() if name in PEERS else []
        if lacking:
            missing[name] = f"not run: {', '.join(lacking)} is not installed; {INSTALL}"
        else:
            cases[name] = case(name)
    # Every round has a seed of its own, so none may be dropped as a warm-up.
    took = alternate(cases, repeats=len(seeds), warmup=0, title=dataset)
    more = {name: _columns(found) for name, found in results.items()}
    everybody = {**took, **{name: [] for name in missing}}
    return rows(dataset, everybody, baseline=BASELINE, unit="s", notes=missing, more=more)


def _columns(found: Sequence[Measured]) -> dict[str, float | str | None]:
    aurocs, precisions = [one.auroc for one in found], [one.average_precision for one in found]
    return {"AUROC": mean(aurocs), "± AUROC": pstdev(aurocs), "AP": mean(precisions), "± AP": pstdev(precisions)}


def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in _installed(_LIBRARIES))


def _installed(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        yield name


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("peers", __doc__)
    made.set_defaults(threads=1)
    everybody = (*OURS, *PEERS)
    told = ", ".join(everybody)
    made.add_argument(
        "--datasets", nargs="+", default=DATASETS, metavar="NAME", help=f"tables (default: {' '.join(DATASETS)})"
    )
    made.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), metavar="SEED", help="(default: 0 1 2)")
    made.add_argument(
        "--methods", nargs="+", choices=everybody, default=everybody, metavar="METHOD", help=f"of {told} (all)"
    )
    options, chosen = parse(made, arguments)
    if options.device != "cpu" or chosen.repeats:
        made.error("every method runs on the CPU, once for each of --seeds; leave out --device and --repeats")
    datasets, seeds = (["toy"], [0]) if options.quick else (chosen.datasets, chosen.seeds)
    names = dict.fromkeys([BASELINE, *chosen.methods])
    found = [row for name in datasets for row in compare(name, seeds, names, options, chosen.threads)]
    return report("peers", found, options=options, notes=[*NOTES, _versions()])


if __name__ == "__main__":
    main()
