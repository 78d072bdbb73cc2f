"""Run experiments from Python, with the same settings, checks, records, cache and resuming as the commands."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.process_state import process_state_kept, states_without_torch_kept
from deepsad_pl.common.records import auroc_of, read_scores
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.composer_at import composer_at
from deepsad_pl.compose.declared import setting_names
from deepsad_pl.compose.override_text import override_text
from deepsad_pl.experiment.finished import Outcome
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.settings.schema import GROUPS

if TYPE_CHECKING:
    from deepsad_pl.data.sources import Source
    from deepsad_pl.methods.base import TrainedMethod
    from deepsad_pl.shallow.models import Model


@dataclass(frozen=True)
class Result(Outcome):
    """Result of an experiment.

    Attributes:
        record: content of ``metrics.json``.
        run_dir: the run folder.
        was_finished: whether it had been finished before, so that nothing was trained.
        plan: the experiment's plan.
    """

    plan: Plan

    @property
    def auroc(self) -> float:
        """AUROC on the test set, in [0, 1]; NaN if the truth of its samples is not known."""
        return auroc_of(self.record)

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """The anomaly score of each test sample, shape (n,), in the order of the data; higher is more anomalous."""
        return read_scores(self.run_dir)[1]

    @cached_property
    def y(self) -> npt.NDArray[np.int64]:
        """The ground truth of each test sample, shape (n,): 0 normal, 1 anomaly, -1 not known."""
        return read_scores(self.run_dir)[0]

    @cached_property
    def module(self) -> "TrainedMethod | Model":
        """The trained model, ready to score: a module in evaluation mode, or the model of a shallow method.

        Raises:
            DeepSADError: if its file is missing or damaged.
        """
        from deepsad_pl.experiment.rescoring import trained_model

        return trained_model(self.plan)


def run(
    method: str | None = None,
    dataset: str | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Run or resume one experiment, or return its result if it is finished.

    Args:
        method: name of the method, see :func:`list_methods`; None: that of a preset, or else Deep SAD.
        dataset: name of the data set, see :func:`list_datasets`; None: that of a preset, or else the digits.
        overrides: overrides as on the command line, such as ``"method.eta=2"`` or ``"+experiment=quick_digits"``.
        config_dir: a folder with your own configurations, like ``--config-dir`` of the commands.
        **settings: settings by name: those of the scenario (``gamma_l=.05``) and of the top level (``seed=1``,
            ``output_dir="runs"``), groups (``pretrain="none"``), and any other setting whose name is unique
            (``eta=2``).

    Raises:
        DeepSADError: with every problem found, including unknown and ambiguous names, before any work.
    """
    with states_without_torch_kept():
        composer = composer_at(config_dir)
        words = _overrides(composer, [*_chosen(dataset=dataset, method=method), *overrides], settings)
        chosen = composer.settings(words)
        plan = make_plan(chosen)
        where = ["--config-dir", str(config_dir)] if config_dir is not None else []
        with process_state_kept():
            from deepsad_pl.experiment.run import run_experiment

            outcome = run_experiment(
                plan,
                config=chosen,
                config_yaml=OmegaConf.to_yaml(OmegaConf.create(chosen)),
                command=shlex.join(["python", "train.py", *where, *words]),
                single=True,
            )
    return Result(outcome.record, outcome.run_dir, outcome.was_finished, plan)


def load_data(
    dataset: str | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dir: str | PathLike[str] | None = None,
    **settings: Any,
) -> "Source":
    """Load the arrays of a data set, split into training and test data and scaled as in an experiment.

    Args:
        dataset: see :func:`run`.
        overrides: see :func:`run`.
        config_dir: see :func:`run`.
        **settings: see :func:`run`, such as ``seed=1`` and ``data_dir="data"``.

    Raises:
        DeepSADError: with every problem found.
    """
    composer = composer_at(config_dir)
    plan = make_plan(composer.settings(_overrides(composer, [*_chosen(dataset=dataset), *overrides], settings)))
    from deepsad_pl.experiment.build import load_data as load

    return load(plan)


def list_methods(config_dir: str | PathLike[str] | None = None) -> list[str]:
    """List the names of the methods.

    >>> "deep_sad" in list_methods()
    True

    Args:
        config_dir: a folder with your own configurations.
    """
    return composer_at(config_dir).options("method")


def list_datasets(config_dir: str | PathLike[str] | None = None) -> list[str]:
    """List the names of the data sets.

    >>> "digits" in list_datasets()
    True

    Args:
        config_dir: a folder with your own configurations.
    """
    return composer_at(config_dir).options("dataset")


def _chosen(**groups: str | None) -> list[str]:
    return [f"{group}={name}" for group, name in groups.items() if name is not None]


def _overrides(composer: Composer, words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Translate settings given by name into command-line overrides.

    Raises:
        DeepSADError: for each name that is unknown or ambiguous.
    """
    groups = {name: value for name, value in settings.items() if name in GROUPS}
    words = [*words]
    words += [f"{name}={value if isinstance(value, str) else override_text(value)}" for name, value in groups.items()]
    names = setting_names(composer.base(composer.choices(composer.parse(words))))
    problems: list[str] = []
    found: list[str] = []
    for name, value in settings.items():
        if name in groups:
            continue
        same = [one for one in names if one.rpartition(".")[2] == name and ".about." not in one]
        first = [one for one in (name, f"scenario.{name}") if one in names]
        if len(same) > 1 and not first:
            told = " or ".join(f'"{one}={override_text(value)}"' for one in same)
            problems.append(f"{name} is ambiguous: {', '.join(same)}; pass overrides=[{told}]")
        elif not (first or same):
            near = suggested(name, [*names, *GROUPS]) or "python train.py --help lists all settings"
            problems.append(f"there is no setting {name} with these choices; {near}")
        else:
            found.append(f"{(first or same)[0]}={override_text(value)}")
    if problems:
        raise DeepSADError(*problems)
    return [*words, *found]
