"""Three ways to score with a network, on random samples that match a data set in shape and number."""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from benchmarks.scoring import Case, Sizes
from deepsad_pl.commands.main import CONF
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import build
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.training.trainer import make_trainer

# Shape of a sample, divisor of pixel values (None: no pixels), and number of test samples.
DATASETS: dict[str, tuple[tuple[int, ...], float | None, int]] = {
    "cardio": ((21,), None, 733),
    "thyroid": ((6,), None, 1509),
    "digits": ((1, 8, 8), 16.0, 719),
    "mnist": ((1, 28, 28), 255.0, 10_000),
    "cifar10": ((3, 32, 32), 255.0, 10_000),
}
LOOP = "loop"
_TRAINING_ROWS = 600
_LOOP_BATCH = 200


def deep_cases(dataset: str, device: str, sizes: Sizes) -> dict[str, Case]:
    """Ways to score with an untrained Deep SAD module: a plain loop, as an experiment does it, and one by one.

    Args:
        dataset: one of :data:`DATASETS`.
        device: device of the network; the samples are in CPU memory at first.
        sizes: number of samples.

    Returns:
        The cases by name; the plain loop, which is the baseline, comes first.
    """
    plan, source = _plan(dataset, device), _source(dataset, sizes)
    parts = build(plan, source)
    module = parts.phases[-1].module
    alone = copy.deepcopy(module).eval().to(device)
    x = torch.from_numpy(source.x_test)

    def score(samples: Tensor) -> Tensor:
        samples = samples.to(device)
        return alone.score(samples.float().div_(source.scale) if source.scale else samples)

    @torch.no_grad()
    def loop() -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = torch.cat([score(batch) for batch in torch.split(x, _LOOP_BATCH)]).cpu().numpy()
        return found

    def trainer() -> npt.NDArray[Any]:
        # As in an experiment, except for the progress bar.
        make_trainer(plan.trainer, plan.run_dir, 1, []).test(module, datamodule=parts.data, verbose=False)
        found: npt.NDArray[Any] = module.test_result["score"].numpy()
        return found

    @torch.no_grad()
    def one_by_one() -> npt.NDArray[Any]:
        return np.array([float(score(sample)) for sample in torch.split(x[: sizes.alone], 1)])

    return {
        LOOP: Case(len(x), loop),
        "trainer.test": Case(len(x), trainer),
        "one by one": Case(min(len(x), sizes.alone), one_by_one),
    }


def _plan(dataset: str, device: str) -> Plan:
    trainer = "gpu" if device == "cuda" else "cpu"
    overrides = [f"dataset={dataset}", "method=deep_sad", "pretrain=none", "logger=none", f"trainer={trainer}"]
    with initialize_config_dir(CONF, version_base="1.3"):
        return make_plan(to_settings(compose("train", overrides)))


def _source(dataset: str, sizes: Sizes) -> Source:
    shape, scale, tests = DATASETS[dataset]
    tests = tests if sizes.tests is None else sizes.tests
    rng = np.random.default_rng(0)

    def drawn(n: int) -> npt.NDArray[Any]:
        if scale is None:
            return rng.normal(size=(n, *shape)).astype(np.float32)
        return rng.integers(0, int(scale) + 1, size=(n, *shape), dtype=np.uint8)

    def labels(n: int) -> npt.NDArray[np.int64]:
        return np.arange(n) % (2 if scale is None else 10)

    return Source(drawn(_TRAINING_ROWS), labels(_TRAINING_ROWS), drawn(tests), labels(tests), scale)
