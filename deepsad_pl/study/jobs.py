"""From a study and what the command line passes on to planned experiments, each with its overrides of train.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deepsad_pl.composer import Composer
from deepsad_pl.data import image_folder
from deepsad_pl.errors import DeepSADError
from deepsad_pl.plan import Plan, class_names, hides_labeled_anomalies, make_plan, training_classes
from deepsad_pl.study.grid import Experiment, Place, Study, Subject, places

# Settings that not every method has.
_OF_A_METHOD = ("method.", "pretrain.")


@dataclass(frozen=True)
class Job:
    """A planned experiment.

    Attributes:
        overrides: what follows ``python train.py``.
        plan: what it does.
    """

    overrides: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True)
class Planned:
    """A study's cells and the experiments that they are made of.

    Attributes:
        places: each with its experiment.
        jobs: of each experiment; those that are the same by their plans share one.
    """

    places: list[Place]
    jobs: Mapping[Experiment, Job]

    @property
    def unique(self) -> list[Job]:
        """Each job once, in the order of the study."""
        return list({job.plan.run_dir: job for job in self.jobs.values()}.values())


class Planner:
    """Makes the cells and the jobs of a study.

    Args:
        composer: makes settings from overrides.
        passed_on: overrides of the command line for all experiments; one of a setting of the method or of pre-training
            goes to the methods that have it.
    """

    def __init__(self, composer: Composer, passed_on: Sequence[str]) -> None:
        self._composer = composer
        self._passed_on = composer.parse(passed_on)
        self._accepted: dict[tuple[str, str], list[Override]] = {}

    def cells(self, study: Study) -> list[Place]:
        """The cells of a study, without planning its experiments.

        Raises:
            DeepSADError: with every problem found.
        """
        found: list[Place] = []
        problems: dict[str, None] = {}
        for dataset in study.datasets:
            for method in study.methods:
                try:
                    found += places(study, self._subject(study, dataset, method))
                except DeepSADError as error:
                    problems |= dict.fromkeys(error.problems)
        if problems:
            raise DeepSADError(*problems)
        self._check_that_all_are_taken(study)
        return found

    def plan(self, study: Study, extra: Mapping[str, str], *, tasks: int | None = None) -> Planned:
        """Plan every experiment of a study.

        Args:
            study: the study.
            extra: settings that decide nothing, for all experiments unless the command line has them.
            tasks: how many processes a launcher will start for each, on another machine; None if they run on this one.

        Raises:
            DeepSADError: with every problem found, before any work.
        """
        with image_folder.looked_at_once():
            return self._plan(study, extra, tasks)

    def _plan(self, study: Study, extra: Mapping[str, str], tasks: int | None) -> Planned:
        found = self.cells(study)
        jobs: dict[Experiment, Job] = {}
        by_run_dir: dict[Path, Job] = {}
        problems: dict[str, None] = {}
        for experiment in dict.fromkeys(place.experiment for place in found):
            accepted = self._of(experiment.dataset, experiment.method)
            given = {override.key_or_group for override in accepted}
            overrides = [
                *experiment.overrides()[:2],
                *_lines(accepted),
                *experiment.overrides()[2:],
                *(f"{key}={value}" for key, value in extra.items() if key not in given),
            ]
            try:
                plan = make_plan(self._settings(overrides), multirun=True, tasks=tasks)
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
            else:
                jobs[experiment] = by_run_dir.setdefault(plan.run_dir, Job(tuple(overrides), plan))
        if problems:
            raise DeepSADError(*problems)
        if not jobs:
            raise DeepSADError(
                f"study={study.name} has no experiment left, since no method has a cell with these axes or each known "
                "class is the normal one; narrow it less"
            )
        return Planned(found, jobs)

    def _subject(self, study: Study, dataset: str, method: str) -> Subject:
        """A method on a data set."""
        accepted = self._of(dataset, method)
        chosen = {o.key_or_group: o.value() for o in accepted if not self._composer.is_choice(o)}
        settings = self._settings([f"dataset={dataset}", f"method={method}", *_lines(accepted)])
        scenario = settings["scenario"]
        gamma_n = chosen.get("scenario.gamma_n", study.fixed.get("scenario.gamma_n", scenario["gamma_n"]))
        # The number of polluting rows then depends on gamma_l for every method.
        sees_labels = not hides_labeled_anomalies(settings["method"]) or gamma_n > 0

        def has(name: str, key: str) -> bool:
            return self._has(dataset, name, self._of(dataset, name), key)

        return Subject(
            dataset,
            method,
            class_names(settings["dataset"]),
            sees_labels,
            scenario,
            chosen,
            has,
            training_classes(settings["dataset"]),
        )

    def _of(self, dataset: str, method: str) -> list[Override]:
        """The overrides passed on to a method."""
        if (dataset, method) not in self._accepted:
            choices = [o for o in self._passed_on if self._composer.is_choice(o)]
            self._accepted[dataset, method] = [
                o for o in self._passed_on if o in choices or self._has(dataset, method, choices, o.key_or_group)
            ]
        return self._accepted[dataset, method]

    def _has(self, dataset: str, method: str, overrides: Sequence[Override], key: str) -> bool:
        if not key.startswith(_OF_A_METHOD):
            return True
        choices = [str(o.input_line) for o in overrides if self._composer.is_choice(o)]
        try:
            return self._composer.has_key([f"dataset={dataset}", f"method={method}", *choices], key)
        except HydraException as error:
            raise DeepSADError(_in_one_line(error)) from error

    def _settings(self, overrides: Sequence[str]) -> dict[str, Any]:
        try:
            return self._composer.settings(overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise DeepSADError(_in_one_line(error)) from error

    def _check_that_all_are_taken(self, study: Study) -> None:
        for key in (*study.fixed, *study.keys.values()):
            if not any(self._has(d, m, self._of(d, m), key) for d in study.datasets for m in study.methods):
                raise DeepSADError(
                    f"study={study.name} sets {key}, which none of its methods has; choose one that has it"
                )
        taken = [o for accepted in self._accepted.values() for o in accepted]
        if unused := [o for o in self._passed_on if o not in taken]:
            methods = ", ".join(dict.fromkeys(method for _, method in self._accepted))
            raise DeepSADError(
                *(
                    f"{o.input_line}: none of the methods {methods} has {o.key_or_group}; leave it out or choose a "
                    "method that has it"
                    for o in unused
                )
            )


def _lines(overrides: Sequence[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides]


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
