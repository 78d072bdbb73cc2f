"""Measure whole sweeps as commands, start-up included."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import seconds

ROOT = Path(__file__).resolve().parents[1]
ONE_BY_ONE = "one by one"
# Each way to run a sweep, with the overrides that choose it.
LAUNCHERS: Mapping[str, tuple[str, ...]] = {
    ONE_BY_ONE: ("hydra/launcher=basic",),
    "joblib": ("hydra/launcher=joblib",),
    "stacked, one process": ("hydra/launcher=stacked", "hydra.launcher.n_jobs=1"),
    "stacked": ("hydra/launcher=stacked",),
}


def sweep_case(name: str, dataset: str, device: str, seeds: int, epochs: int | None) -> Callable[[], float]:
    """Make a function that runs a sweep over seeds with ``train.py -m`` and returns the seconds per experiment.

    Args:
        name: one of :data:`LAUNCHERS`.
        dataset: name of the data set.
        device: "cpu" or "cuda".
        seeds: number of experiments.
        epochs: maximum number of epochs of each training; None: the whole schedule.

    Raises:
        subprocess.CalledProcessError: by the function, if the command fails.
    """
    words = [
        f"dataset={dataset}",
        "scenario.gamma_l=0.01",
        "logger=none",
        f"trainer={'gpu' if device == 'cuda' else 'cpu'}",
        f"seed={','.join(map(str, range(seeds)))}",
        *LAUNCHERS[name],
        *([] if epochs is None else [f"trainer.max_epochs={epochs}"]),
    ]

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "train.py", "-m", *words, f"output_dir={folder}"]
            took = seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True))
        return took / seeds

    return run
