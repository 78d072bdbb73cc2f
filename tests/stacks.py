"""Train experiments stacked or alone in this process, and read the files that they leave."""

import csv
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from planned import settings_of

from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.stacked.experiments import Assignment, Result, run_together

CLI = Callable[..., subprocess.CompletedProcess[str]]
STACKED = ("-m", "hydra/launcher=stacked", "trainer.threads=1")
SHORT = ("method.epochs=[2]", "method.lr=[1e-3]", "pretrain.epochs=[2]", "pretrain.lr=[1e-3]")
STEPS = 4  # of an epoch: about 110 training rows in batches of 32
PHASES = ("pretrain", "fit")


def records(where: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(where.rglob("metrics.json"))]


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def assigned(where: Path, *overrides: str) -> Assignment:
    settings = settings_of(f"output_dir={where}", *overrides)
    plan = make_plan(settings, multirun=True)
    return Assignment(plan, settings, OmegaConf.to_yaml(OmegaConf.create(settings)), "a test")


def together(where: Path, *cells: Sequence[str]) -> list[Result]:
    return run_together([assigned(where, *cell) for cell in cells])


def alone(where: Path, *overrides: str) -> Outcome:
    one = assigned(where, *overrides)
    return run_experiment(one.plan, config=one.config, config_yaml=one.config_yaml, command=one.command)


def outcomes(results: Sequence[Result]) -> list[Outcome]:
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Outcome)]


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def scores(run_dir: Path) -> list[float]:
    header, *found = rows(run_dir / "scores.csv")
    return [float(row[header.index("score")]) for row in found]


def losses(run_dir: Path) -> tuple[list[list[str]], list[float]]:
    """Phase, epoch and step of each row; the losses."""
    table = rows(run_dir / "losses.csv")[1:]
    return [row[:3] for row in table], [float(row[3]) for row in table]


def each_step_once(epochs: Mapping[str, int]) -> list[list[str]]:
    return [[phase, str(i // STEPS), str(i)] for phase in PHASES for i in range(epochs[phase] * STEPS)]
