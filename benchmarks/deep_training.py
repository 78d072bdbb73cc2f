"""Several ways to train a network, each measured in ms per step, on random samples of a data set's shape."""

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from benchmarks.deep_scoring import DATASETS
from deepsad_pl.commands.main import CONF
from deepsad_pl.compose.declared import to_settings
from deepsad_pl.data.batch_loader import batch_sizes
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import Phase, build
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.compiling import compiled
from deepsad_pl.training.kept_memory import kept_memory
from deepsad_pl.training.trainer import CollapseCheck, EpochCheckpoint, LossRecorder, PhaseProgress, make_trainer

PHASES = ("pretrain", "fit")
BARE, CHANNELS_FIRST = "bare loop", "bare loop, filters channels-first"
# Each way that goes through the Trainer, with its overrides.
OURS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours compiled": ("trainer.compile=true",),
    "ours bf16": ("trainer.precision=bf16-mixed",),
    "ours compiled bf16": ("trainer.compile=true", "trainer.precision=bf16-mixed"),
}
CASES = (BARE, CHANNELS_FIRST, "per-sample data set", *OURS)
# Shapes, largest value (None: of a table), number of test samples.
_SHAPES = {**DATASETS, "fmnist": DATASETS["mnist"]}


@dataclass(frozen=True)
class Length:
    """The length of a measured training.

    Attributes:
        rows: number of normal training rows; labeled anomalies are added until they are a twentieth of all rows.
        epochs: number of epochs over these rows.
    """

    rows: int
    epochs: int


# Each training takes at least a few tenths of a second; small data sets have as many rows as in an experiment.
FULL = {
    **{"cardio": Length(1000, 60), "digits": Length(130, 200)},
    **{"mnist": Length(2000, 3), "fmnist": Length(2000, 3), "cifar10": Length(1000, 2)},
}
QUICK = {"cardio": Length(420, 2)}


def training_cases(
    dataset: str, phase: str, device: str, length: Length, names: Iterable[str], keep: ExitStack
) -> dict[str, Callable[[], float]]:
    """Make one function per way to train a phase; it trains and returns ms per step, not counting the first step.

    Args:
        dataset: one of :data:`FULL`.
        phase: one of :data:`PHASES`.
        device: "cpu" or "cuda".
        length: length of a training.
        names: some of :data:`CASES`.
        keep: keeps folders and compiled functions until the end of the measurement.
    """
    folder = Path(keep.enter_context(tempfile.TemporaryDirectory()))
    found: dict[str, Callable[[], float]] = {}
    for name in names:
        plan = plan_of(dataset, device, folder / str(len(found)), length, *OURS.get(name, ()))
        parts = build(plan, source_of(dataset, length.rows))
        trained = parts.phases[PHASES.index(phase)]
        if name in OURS:
            if plan.trainer["compile"]:
                keep.enter_context(compiled(trained.module, torch.device(device)))
            found[name] = _through_trainer(plan, trained)
        else:
            if name == CHANNELS_FIRST:
                trained.module.to(memory_format=torch.contiguous_format)
            loop = _bare_loop if name in (BARE, CHANNELS_FIRST) else _per_sample_loop
            found[name] = loop(trained, device, length.epochs)
    return found


def _through_trainer(plan: Plan, phase: Phase) -> Callable[[], float]:
    def run() -> float:
        plan.run_dir.mkdir(parents=True, exist_ok=True)
        checkpoint = EpochCheckpoint(plan.run_dir / "last.ckpt", plan.trainer["checkpoint_seconds"])
        recorder, clock = LossRecorder(phase.name, NoTracker()), _ClockCallback()
        callbacks = [recorder, PhaseProgress(phase.name, recorder), CollapseCheck(phase.name), checkpoint, clock]
        epochs = sum(phase.module.epochs)
        with kept_memory():
            make_trainer(plan.trainer, plan.run_dir, epochs, callbacks).fit(phase.module, datamodule=phase.data)
        return clock.clock.ms

    return run


def _bare_loop(phase: Phase, device: str, epochs: int) -> Callable[[], float]:
    module, loader = phase.module.to(device), phase.data.train_dataloader()
    x, semi_y, scale = loader.x.to(device), loader.semi_y.to(device), loader.scale
    sizes = batch_sizes(len(x), loader.batch_size)
    steps = epochs * len(sizes)

    def run() -> float:
        module.train()
        adam = torch.optim.Adam(module.parameters(), lr=1e-4, weight_decay=1e-6, fused=True)
        clock = _Clock(device)
        for _ in range(epochs):
            losses: list[Tensor] = []
            for rows in torch.split(torch.randperm(len(x)).to(device), sizes):
                batch = x[rows].float().div_(scale) if scale else x[rows]
                loss = module.terms(batch, semi_y[rows]).mean()
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                losses.append(loss.detach())
                clock.step(steps)
            torch.stack(losses).tolist()
        return clock.ms

    return run


class PerSample(Dataset[tuple[Tensor, Tensor]]):
    """A data set as in torchvision: yields one sample at a time, and converts images with PIL."""

    def __init__(self, x: npt.NDArray[Any], semi_y: Tensor) -> None:
        self.x, self.semi_y = x, semi_y
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.x[index]
        if sample.ndim == 1:
            return torch.from_numpy(sample), self.semi_y[index]
        pixels = sample[0] if len(sample) == 1 else sample.transpose(1, 2, 0)
        return self.transform(Image.fromarray(np.ascontiguousarray(pixels))), self.semi_y[index]


def _per_sample_loop(phase: Phase, device: str, epochs: int) -> Callable[[], float]:
    module, loader = phase.module.to(device), phase.data.train_dataloader()
    module = module.to(memory_format=torch.contiguous_format)
    batches = DataLoader(PerSample(loader.x.numpy(), loader.semi_y), loader.batch_size, shuffle=True)
    steps = epochs * len(batches)

    def run() -> float:
        module.train()
        adam = torch.optim.Adam(module.parameters(), lr=1e-4, weight_decay=1e-6)
        clock, total = _Clock(device), 0.0
        for _ in range(epochs):
            for x, semi_y in batches:
                adam.zero_grad()
                loss = module.terms(x.to(device), semi_y.to(device)).mean()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                total += loss.item()
                clock.step(steps)
        return clock.ms

    return run


class _Clock:
    """Measures ms per step, from the end of the first step, which also allocates and compiles, to that of the last."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps = 0
        self.ms = float("nan")

    def step(self, of: int) -> None:
        """Record that a step has ended; ``of`` is the number of all steps."""
        self.steps += 1
        if self.steps == 1:
            self._start = self._now()
        elif self.steps == of:
            self.ms = (self._now() - self._start) / (of - 1) * 1e3

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class _ClockCallback(Callback):
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = _Clock(trainer.strategy.root_device.type)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.clock.step((trainer.max_epochs or 0) * int(trainer.num_training_batches))


def plan_of(dataset: str, device: str, output_dir: Path, length: Length, *overrides: str) -> Plan:
    """Make the plan of a Deep SAD experiment with ``length.epochs`` epochs per phase."""
    groups = [f"dataset={dataset}", "method=deep_sad", "logger=none", f"trainer={'gpu' if device == 'cuda' else 'cpu'}"]
    settings = [f"output_dir={output_dir}", f"trainer.max_epochs={length.epochs}", *overrides]
    with initialize_config_dir(CONF, version_base="1.3"):
        return make_plan(to_settings(compose("train", [*groups, *settings])))


def source_of(dataset: str, rows: int) -> Source:
    """Draw random samples of a data set's shape and range: ``rows`` normal ones and a tenth as many anomalies."""
    shape, scale, _ = _SHAPES[dataset]
    rng = np.random.default_rng(0)

    def drawn(n: int) -> npt.NDArray[Any]:
        if scale is None:
            return rng.normal(size=(n, *shape)).astype(np.float32)
        return rng.integers(0, int(scale) + 1, size=(n, *shape), dtype=np.uint8)

    labels = np.arange(rows + rows // 10) >= rows
    return Source(drawn(len(labels)), labels.astype(np.int64), drawn(2), np.arange(2), scale)
