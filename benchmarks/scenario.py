"""Scenario (i) with stacked Deep SAD: seconds per experiment compared with single runs, total time, GPU utilisation."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.commands import ONE_BY_ONE, ROOT
from benchmarks.deep_training import PHASES, Length, plan_of, source_of
from benchmarks.harness import Row, alternate, quiet_console, rows, seconds
from benchmarks.options import Options, parse, parser
from benchmarks.report import report
from benchmarks.stacking import stacked_case
from deepsad_pl.experiment.build import build

PARTS = ("ninety", "whole", "extrapolated")
STACKED = "stacked"
NOTES = (
    "ninety: seconds an experiment of the 90 of one gamma_l as one study, beside --singles of them one by one, as "
    "commands, full schedule with pre-training, W&B off. whole: minutes of all 370.",
    "extrapolated: minutes of 370 trainings, both phases of 150 epochs, from --epochs epochs of a stack of K on random "
    "samples; convolutions and products of forward and backward pass over their time, beside the peak.",
)
# Peak of dense TF32, which torch uses for convolutions in 32-true, by a part of the GPU's name.
_PEAK_TFLOPS = {"H100": 494.7, "H200": 494.7}
_EXPERIMENTS, _EPOCHS = 370, 150


@dataclass(frozen=True)
class Sizes:
    """What the benchmark runs.

    Attributes:
        dataset: data set of the commands.
        extrapolated: data set for which the scenario's time is extrapolated.
        length: length of the measured training, for the extrapolation.
        narrowing: overrides that leave fewer experiments in the study.
        shortening: overrides that shorten every experiment.
    """

    dataset: str
    extrapolated: str
    length: Length
    narrowing: tuple[str, ...] = ()
    shortening: tuple[str, ...] = ()


FULL = Sizes("mnist", "cifar10", Length(5000, 2))
QUICK = Sizes(
    "digits", "digits", Length(130, 2), ("study.normal_classes=[0]", "study.anomaly_classes=[1,2]"),
    ("trainer.max_epochs=1",),
)  # fmt: skip


def command(script: str, device: str, words: Sequence[str]) -> float:
    """Run a script of the checkout and return its seconds.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    trainer = f"trainer={'gpu' if device == 'cuda' else 'cpu'}"
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, script, *words, trainer, "logger=none", f"output_dir={folder}"]
        return seconds(lambda: subprocess.run(line, cwd=ROOT, check=True, capture_output=True))


def ninety(options: Options, repeats: int, sizes: Sizes, singles: int) -> list[Row]:
    """Measure the experiments of one gamma_l, as one study and one by one."""
    study = [*_study(sizes), "study.axes.gamma_l=[0.05]"]
    experiments = 2 if sizes.narrowing else 90
    seeds = f"seed={','.join(map(str, range(singles)))}"
    alone = ["-m", "hydra/launcher=basic", f"dataset={sizes.dataset}", seeds, *sizes.shortening]
    cases: dict[str, Callable[[], float]] = {
        ONE_BY_ONE: lambda: command("train.py", options.device, alone) / singles,
        STACKED: lambda: command("sweep.py", options.device, study) / experiments,
    }
    measured = alternate(cases, repeats=repeats, warmup=0, title="ninety")
    return rows(f"{sizes.dataset}, {experiments} experiments", measured, baseline=ONE_BY_ONE, unit="s")


def whole(options: Options, repeats: int, sizes: Sizes) -> list[Row]:
    """Measure all of scenario (i)."""
    run = {STACKED: lambda: command("sweep.py", options.device, _study(sizes)) / 60}
    measured = alternate(run, repeats=repeats, warmup=0, title="whole")
    return rows(f"{sizes.dataset}, scenario (i)", measured, baseline=STACKED, unit="min")


def _study(sizes: Sizes) -> list[str]:
    words = ["study=labeled_anomalies", f"dataset={sizes.dataset}", "method=deep_sad", "hydra/launcher=stacked"]
    return [*words, *sizes.narrowing, *sizes.shortening]


def extrapolated(options: Options, sizes: Sizes, counts: Sequence[int], peak: float | None) -> list[Row]:
    """Extrapolate the time of the scenario on a data set that is too large to run it, for each phase and stack size."""
    found: list[Row] = []
    dataset, length = sizes.extrapolated, sizes.length
    for phase in PHASES:
        flop, batches = flop_of_step(dataset, phase, length)
        with quiet_console(), ExitStack() as keep:
            cases = {
                f"K = {count}": stacked_case(dataset, phase, options.device, length, count, keep)[0] for count in counts
            }
            measured = alternate(cases, repeats=options.repeats, title=f"{dataset} {phase}")
        steps = _EXPERIMENTS * _EPOCHS * batches
        minutes = {name: [ms * steps / 6e4 for ms in values] for name, values in measured.items()}
        made = rows(f"{dataset} {phase}, extrapolated", minutes, baseline=f"K = {counts[0]}", unit="min")
        for row in made:
            assert row.median is not None
            achieved = flop * steps / (row.median * 60) / 1e12
            more: dict[str, float | str | None] = {
                "TFLOP/s": achieved,
                "% of peak": "unknown" if peak is None else 100 * achieved / peak,
            }
            found.append(replace(row, more=more))
    return found


def flop_of_step(dataset: str, phase: str, length: Length) -> tuple[int, int]:
    """FLOP of products and convolutions in a training step of one experiment, and the number of steps per epoch."""
    with tempfile.TemporaryDirectory() as folder:
        parts = build(plan_of(dataset, "cpu", Path(folder), length), source_of(dataset, length.rows))
    trained = parts.phases[PHASES.index(phase)]
    x, semi_y, _, _ = next(iter(trained.data.train_dataloader()))
    with FlopCounterMode(display=False) as counter:
        trained.module.terms(x, semi_y).mean().backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops(), trained.data.batches


def peak_of(device: str) -> float | None:
    """Peak TFLOP/s of the GPU at the precision used, or None if unknown."""
    if device != "cuda":
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in _PEAK_TFLOPS.items() if part in name), None)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the benchmark.

    Args:
        arguments: arguments of the command line; None: those of this process.

    Returns:
        The JSON file.
    """
    made = parser("scenario", __doc__)
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=f"of {', '.join(PARTS)} (all)")
    made.add_argument("--singles", type=int, default=2, help="experiments that are run one by one (default: 2)")
    made.add_argument("--replicas", nargs="+", type=int, metavar="K", help="of an extrapolated stack (default: 8 32)")
    made.add_argument("--peak", type=float, help="TFLOP/s of the device at the precision used, where it is not known")
    options, chosen = parse(made, arguments)
    sizes = QUICK if options.quick else FULL
    # Whole studies take minutes, so they run once by default.
    repeats = chosen.repeats or 1
    found: list[Row] = []
    if "ninety" in chosen.parts:
        found += ninety(options, repeats, sizes, chosen.singles)
    if "whole" in chosen.parts:
        found += whole(options, repeats, sizes)
    if "extrapolated" in chosen.parts:
        counts = chosen.replicas or ([1, 2] if options.quick else [8, 32])
        found += extrapolated(options, sizes, counts, chosen.peak or peak_of(options.device))
    return report("scenario", found, options=options, notes=NOTES)


if __name__ == "__main__":
    main()
