"""Train many experiments as one stack, on random samples of a data set's shape."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.deep_training import PHASES, Length, plan_of, source_of
from benchmarks.harness import seconds
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import Phase, build
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.tracking.tracker import NoTracker


def stacked_case(
    dataset: str, phase: str, device: str, length: Length, replicas: int, keep: ExitStack, columns: int | None = None
) -> tuple[Callable[[], float], int]:
    """Make a function that trains K experiments as one stack and returns ms per step and experiment, set-up included.

    Args:
        dataset: data set that determines the network and the shape of the samples.
        phase: one of :data:`~benchmarks.deep_training.PHASES`.
        device: "cpu" or "cuda".
        length: length of a training.
        replicas: K, the number of experiments, which differ in their seeds.
        keep: keeps the folder until the end of the measurement.
        columns: number of columns of a table, instead of the data set's own.

    Returns:
        The function, and the number of steps per epoch.
    """
    folder = Path(keep.enter_context(tempfile.TemporaryDirectory()))
    source = source_of(dataset, length.rows)
    if columns is not None:
        source = _with_columns(source, columns)
    plans = [plan_of(dataset, device, folder, length, f"seed={seed}") for seed in range(replicas)]
    phases = [build(plan, source).phases[PHASES.index(phase)] for plan in plans]

    def run() -> float:
        trainings = [_training(part, folder / str(i)) for i, part in enumerate(phases)]
        took = seconds(lambda: train_stack(trainings, plans[0].trainer, folder), device)
        return 1e3 * took / (length.epochs * phases[0].data.batches) / replicas

    return run, phases[0].data.batches


def _training(phase: Phase, folder: Path) -> Training:
    folder.mkdir(exist_ok=True)
    return Training(phase, folder / "checkpoints" / "x.ckpt", NoTracker())


def _with_columns(source: Source, columns: int) -> Source:
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(len(x), columns)).astype(np.float32) for x in (source.x_train, source.x_test))
    return replace(source, x_train=train, x_test=test)


def doublings(most: int) -> Sequence[int]:
    """The powers of two from 1 up to ``most``."""
    return [2**i for i in range(most.bit_length()) if 2**i <= most]
