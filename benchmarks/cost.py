"""Measure what trainings and fits cost in multiples of this machine's probe: the numbers to declare in conf/.

A dry run estimates the time of a study from them and from the probe. All is CPU time of one thread, of which the
fastest epoch or fit counts, as in the probe, so that other work on the machine matters little.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning import Callback, LightningModule, Trainer
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

from benchmarks.harness import Row, quiet_console
from benchmarks.options import Options, parse, parser
from benchmarks.problems import drawn
from benchmarks.report import report
from deepsad_pl.commands.main import CONF
from deepsad_pl.common.components import instantiate
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import Phase, build
from deepsad_pl.experiment.cost import factor_of, network_work
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.settings.about import of_method, own
from deepsad_pl.shallow.task import Task
from deepsad_pl.study.machine_speed import probe_seconds
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.kept_memory import kept_memory
from deepsad_pl.training.trainer import CollapseCheck, EpochCheckpoint, LossRecorder, PhaseProgress, make_trainer

# Data sets from whose trainings the costs of each network are fitted, with training rows and epochs.
NETWORKS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "mlp": {"thyroid": (1000, 15), "cardio": (1000, 15), "arrhythmia": (1000, 15)},
    "lenet": {"digits": (320, 15), "mnist": (1000, 8), "fmnist": (600, 6), "cifar10": (400, 4)},
}
BATCHES = (200, 32)
# Data sets on which methods are compared with Deep SAD.
COMPARED = {"cardio": (1000, 15), "mnist": (1000, 8)}
SIZES, COLUMNS = (300, 1000, 3000), (6, 36, 784)
QUICK_SIZES, QUICK_COLUMNS = (60, 120), (3, 6)
# A shallow method declares the cost of a fit on this many rows and columns.
_ROWS, _COLUMNS = 1000, 100
_MILLION = 1e6


def deep_costs(rounds: int, networks: Mapping[str, Mapping[str, tuple[int, int]]]) -> Iterator[Row]:
    """Fit the costs of the package's networks to the measured costs of Deep SAD's epochs."""
    for network, datasets in networks.items():
        design, costs, names = [], [], []
        for (dataset, (rows, epochs)), batch in product(datasets.items(), BATCHES):
            plan = _plan(dataset, f"method.batch_size={batch}", epochs=epochs)
            cost = epoch_cost(plan, rows, rounds)
            work = network_work(plan.dataset)
            assert work is not None
            design.append([-(-rows // batch), rows * work.multiply_adds / _MILLION, rows * work.values / _MILLION])
            costs.append(cost)
            names.append(f"{dataset}, batches of {batch}")
        scaled = np.array(design) / np.array(costs)[:, None]
        found, _ = nnls(scaled, np.ones(len(costs)))
        for key, value in zip(("step_cost", "operation_cost", "value_cost"), found, strict=True):
            yield _row(f"network/{network}", key, value)
        for name, share, cost in zip(names, scaled @ found, costs, strict=True):
            yield _row(f"network/{network}", f"{name}: fitted / measured", float(share), epoch=cost)


def method_costs(rounds: int, methods: Sequence[str], datasets: Mapping[str, tuple[int, int]]) -> Iterator[Row]:
    """Compare the epochs of deep methods and pre-trainings with those of Deep SAD."""
    base = {name: epoch_cost(_plan(name, epochs=n), rows, rounds) for name, (rows, n) in datasets.items()}
    for group, name, words, is_pretraining in _trainings(methods):
        ratios = {
            dataset: epoch_cost(_plan(dataset, *words, epochs=n), rows, rounds, of_pretraining=is_pretraining)
            / base[dataset]
            for dataset, (rows, n) in datasets.items()
        }
        yield _row(f"{group}/{name}", "cost", geometric_mean(ratios.values()), **ratios)


def shallow_costs(rounds: int, methods: Sequence[str], sizes: Sequence[int], columns: Sequence[int]) -> Iterator[Row]:
    """Fit a power law to the cost of shallow methods on random tables, including the scoring of as many test rows."""
    for name in methods:
        facts = of_method(own("method")[name])
        if not facts.shallow or facts.pretrain != ["none"] or facts.files:
            continue
        logs, costs = [], []
        for n, width in product(sizes, columns):
            plan = _plan("cardio", f"method={name}")
            costs.append(_fit_seconds(plan, n, width, rounds) / probe_seconds() / factor_of(plan.method))
            logs.append([1.0, np.log(n / _ROWS), np.log(width / _COLUMNS)])
        design, measured = np.array(logs), np.log(costs)
        # Exponents are not negative, but the logarithm of the cost may be.
        found, _ = nnls(np.column_stack([design, -design[:, 0]]), measured)
        shape = {"cost_rows": found[1], "cost_columns": found[2]}
        worst = float(np.exp(np.abs(design @ [found[0] - found[3], found[1], found[2]] - measured).max()))
        yield _row(f"method/{name}", "cost", float(np.exp(found[0] - found[3])))
        for key, value in shape.items():
            yield _row(f"method/{name}", key, float(value))
        yield _row(f"method/{name}", "largest ratio of fitted and measured", worst)


def epoch_cost(plan: Plan, rows: int, rounds: int, *, of_pretraining: bool = False) -> float:
    """The cost of an epoch of a plan's own training, or of its pre-training.

    Args:
        plan: plan of the experiment.
        rows: number of training rows.
        rounds: number of trainings, of whose epochs the fastest counts.
        of_pretraining: whether to measure the pre-training.
    """
    least = float("inf")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, quiet_console():
            there = replace(plan, run_dir=Path(folder))
            phase = build(there, _source(plan, rows)).phases[0 if of_pretraining else -1]
            least = min(least, _fastest_epoch(there, phase))
    return least / probe_seconds()


def _fastest_epoch(plan: Plan, phase: Phase) -> float:
    checkpoint = EpochCheckpoint(plan.run_dir / "last.ckpt", plan.trainer["checkpoint_seconds"])
    recorder, clock = LossRecorder(phase.name, NoTracker()), _EpochClock()
    callbacks = [recorder, PhaseProgress(phase.name, recorder), CollapseCheck(phase.name), checkpoint, clock]
    with kept_memory():
        trainer = make_trainer(plan.trainer, plan.run_dir, sum(phase.module.epochs), callbacks)
        trainer.fit(phase.module, datamodule=phase.data)
    return clock.fastest


class _EpochClock(Callback):
    """Measures the CPU seconds from the start of an epoch to the start of the next one."""

    def __init__(self) -> None:
        self.fastest = float("inf")
        self._before: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.process_time()
        if self._before is not None:
            self.fastest = min(self.fastest, now - self._before)
        self._before = now


def _fit_seconds(plan: Plan, n: int, width: int, rounds: int) -> float:
    """CPU seconds to fit a shallow method on random rows and to score as many test rows."""
    normal, anomalous = drawn(2 * n, width)
    labeled = max(2, n // 20)
    x = np.concatenate([anomalous[:labeled], normal[: n - labeled]])
    semi_y = np.where(np.arange(n) < labeled, -1, 0).astype(np.int64)
    if plan.method.hides_labeled_anomalies:
        x, semi_y = normal[:n], np.zeros(n, np.int64)
    half = n // 2
    x_test = np.concatenate([normal[n:][:half], anomalous[n:][:half]])
    y_test = (np.arange(len(x_test)) >= half).astype(np.int64)
    fit = instantiate({"_target_": plan.method.target, **plan.method.arguments, "_partial_": True}, "method")

    def run() -> float:
        task = Task(x.astype(np.float32), semi_y, x_test.astype(np.float32), y_test, seed=0, threads=1)
        start = time.process_time()
        fit(task).model.score(task.x_test)
        return time.process_time() - start

    return min(run() for _ in range(rounds))


def _source(plan: Plan, rows: int) -> Source:
    """Random samples of a data set's shape: normal ones of class 0, and as many anomalies of class 1."""
    shape = plan.dataset.about.shape
    assert shape is not None
    rng, size = np.random.default_rng(0), (2 * rows, *shape)
    is_image = plan.dataset.about.inputs == "images"
    x: npt.NDArray[Any] = rng.integers(0, 256, size, np.uint8) if is_image else rng.normal(size=size).astype(np.float32)
    labels = (np.arange(len(x)) >= rows).astype(np.int64)
    return Source(x, labels, x[[0, -1]], labels[[0, -1]], 255.0 if is_image else None)


def _trainings(methods: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    """The deep methods and all pre-trainings: group, name, overrides, and whether it is a pre-training."""
    starts = {name: of_method(own("method")[name]).pretrain for name in own("method")}
    for name in methods:
        if not of_method(own("method")[name]).shallow:
            before = "none" if "none" in starts[name] else starts[name][0]
            yield "method", name, (f"method={name}", f"pretrain={before}"), False
    for name, settings in own("pretrain").items():
        if settings["_target_"] is not None:
            user = next(method for method in starts if name in starts[method])
            yield "pretrain", name, (f"method={user}", f"pretrain={name}"), True


def _plan(dataset: str, *words: str, epochs: int | None = None) -> Plan:
    """The plan of an experiment on one thread, of Deep SAD if the overrides name no method."""
    settings = ["logger=none", "trainer=cpu", "trainer.threads=1"]
    settings += ["scenario.normal_class=0", "scenario.anomaly_class=1", "scenario.gamma_l=0.05"]
    settings += [] if epochs is None else [f"trainer.max_epochs={epochs}"]
    with initialize_config_dir(CONF, version_base="1.3"):
        return make_plan(to_settings(compose("train", [f"dataset={dataset}", *settings, *words])))


def _row(what: str, case: str, value: float, **more: float) -> Row:
    return Row(what, case, "", case, (float(value),), more=dict(more))


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("cost", __doc__)
    made.add_argument("--methods", nargs="*", choices=[*own("method")], help="which methods (default: all)")
    options, parsed = parse(made, arguments)
    if options.device != "cpu":
        made.error(f"--device is {options.device}, but costs are those of a CPU; leave it out")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = _measure(options, [*own("method")] if parsed.methods is None else parsed.methods)
    probe = f"The unit is the probe: {probe_seconds() * 1e3:.3f} ms of this machine's CPU time."
    return report("cost", rows, options=options, notes=[probe])


def _measure(options: Options, methods: Sequence[str]) -> list[Row]:
    networks = {"mlp": {"cardio": (64, 3)}} if options.quick else NETWORKS
    compared = {"cardio": (64, 3)} if options.quick else COMPARED
    sizes, columns = (QUICK_SIZES, QUICK_COLUMNS) if options.quick else (SIZES, COLUMNS)
    return [
        *deep_costs(options.repeats, networks),
        *method_costs(options.repeats, methods, compared),
        *shallow_costs(options.repeats, methods, sizes, columns),
    ]


if __name__ == "__main__":
    main()
