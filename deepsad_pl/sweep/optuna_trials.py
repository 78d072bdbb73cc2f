"""What a search by Optuna does around its trials: checks before, failures told, a table of what was tried."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.messages import CommandLineError, first_line
from deepsad_pl.compose.composer import Composer
from deepsad_pl.settings.checks import names_a_folder

WARNING = (
    "hydra/sweeper=optuna chooses settings by their AUROC on the test set, so the best AUROC is optimistic; report the "
    "AUROC of the chosen settings on other data"
)
RESULTS = "optimization_results.yaml"
_MOST_TRIALS = 10**6


@dataclass
class Trials(Launcher):
    """Launches trials by another launcher: all are checked before, and one whose AUROC is no finite number has failed.

    Attributes:
        launcher: the other launcher.
        composer: composes the trials' settings.
        done: overrides and outcome of each trial.
    """

    launcher: Launcher
    composer: Composer
    done: list[tuple[Sequence[str], JobReturn]] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[Sequence[str], Any]]:
        """Overrides and exception of each failed trial."""
        return [(job, one._return_value) for job, one in self.done if one.status != JobStatus.COMPLETED]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: the other launcher is set up already."""

    def check(self, jobs: Sequence[Sequence[str]]) -> None:
        """Plan trials without running them.

        Raises:
            DeepSADError: with every problem found.
        """
        problems: dict[str, None] = {}
        for job in jobs:
            try:
                self.composer.plan(job, tasks=getattr(self.launcher, "tasks", None))
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise DeepSADError(*problems)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run trials.

        Raises:
            DeepSADError: before any of them, if the settings of one are invalid.
        """
        self.check(job_overrides)
        returns = list(self.launcher.launch(job_overrides, initial_job_idx))
        for one in returns:
            if one.status == JobStatus.COMPLETED and not math.isfinite(one._return_value):
                error = CommandLineError(f"its AUROC is {one._return_value}, which cannot be compared")
                one.status, one.return_value = JobStatus.FAILED, error
        self.done += zip(job_overrides, returns, strict=True)
        return returns

    def told(self) -> str:
        """The error message about the failed trials."""
        lines = [f"  {' '.join(job)}: {first_line(error)}" for job, error in self.failed]
        return "\n".join([f"{len(lines)} of {len(self.done)} trials failed, which ends the search:", *lines])


def search_problems(sweeper: Mapping[str, Any], config_name: str, overrides: Sequence[Override]) -> Iterator[str]:
    """Yield each reason why a search cannot be made.

    Args:
        sweeper: settings of ``hydra/sweeper=optuna``.
        config_name: name of the primary configuration.
        overrides: the search space and the fixed settings.
    """
    if config_name != "train":
        yield "hydra/sweeper=optuna is for train.py -m; use it there, or leave it out of sweep.py"
    for key in ("n_trials", "n_jobs"):
        if not isinstance(value := sweeper[key], int) or not 1 <= value <= _MOST_TRIALS:
            yield f"hydra.sweeper.{key} is {value}; give a whole number from 1 to {_MOST_TRIALS:,}"
    if not isinstance(seed := sweeper["sampler"]["seed"], int):
        yield (
            f"hydra.sweeper.sampler.seed is {seed}, so that a repeated command would draw other trials; give a whole "
            "number"
        )
    if (name := sweeper["study_name"]) is not None:
        yield from names_a_folder("hydra.sweeper.study_name", str(name))
    if not any(override.is_sweep_override() for override in overrides):
        yield (
            "there is nothing to search; give a setting several values, such as method.eta=1,10 or "
            "'method.eta=tag(log,interval(0.1,10))'"
        )


def corners(overrides: Sequence[Override]) -> list[list[str]]:
    """Jobs that have each choice and both ends of each range once, and the first value of all other settings."""
    values = [list(_ends(override)) for override in overrides]
    first = [words[0] for words in values]
    return [[*first[:i], word, *first[i + 1 :]] for i, words in enumerate(values) for word in words]


def _ends(override: Override) -> Iterator[str]:
    value, key = override.value(), override.get_key_element()
    if isinstance(value, ChoiceSweep):
        yield from (f"{key}={choice}" for choice in override.sweep_iterator(transformer=Transformer.encode))
    elif isinstance(value, RangeSweep):
        yield from (f"{key}={end}" for end in (value.start, value.stop))
    elif isinstance(value, IntervalSweep):
        yield from (f"{key}={end}" for end in (value.start, value.end))
    else:
        yield str(override.input_line)


def write_trials(folder: Path, searched: Sequence[str], trials: Trials) -> str:
    """Add the warning to the file with the best settings, and write a table of all trials beside it.

    Args:
        folder: folder of the search.
        searched: the settings that it varies.
        trials: all of its trials, completed.

    Returns:
        The best settings and their AUROC, in one line.
    """
    results = OmegaConf.to_container(OmegaConf.load(folder / RESULTS))
    assert isinstance(results, dict)
    write_atomic(folder / RESULTS, OmegaConf.to_yaml(OmegaConf.create({**results, "warning": WARNING})))
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow([*searched, "auroc"])
    for job, one in trials.done:
        given = dict(word.split("=", 1) for word in job)
        rows.writerow([*(given[key] for key in searched), one._return_value])
    write_atomic(folder / "trials.csv", table.getvalue())
    best = " ".join(f"{key}={value}" for key, value in results["best_params"].items())
    return f"best of {counted(len(trials.done), 'trial')}: {best}, test AUROC {results['best_value']:.4f}, in {folder}"
