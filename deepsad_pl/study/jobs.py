"""Plan the experiments of a study, each with its overrides of train.py."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import suggested
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.declared import setting_names
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.data import image_folder
from deepsad_pl.data.scenario import GIVEN_CLASSES
from deepsad_pl.experiment.plan import Plan, class_names, training_classes
from deepsad_pl.settings.about import MethodAbout, of_method, own
from deepsad_pl.study.dataset_entries import normal_classes, overrides_of, same_name_problems
from deepsad_pl.study.grid import Experiment, Place, Study, Subject, places

# Groups whose choices in a study may differ in their settings.
_VARYING = ("dataset", "method")


@dataclass(frozen=True)
class Job:
    """A planned experiment.

    Attributes:
        overrides: the overrides after ``python train.py``.
        plan: plan of the experiment.
    """

    overrides: tuple[str, ...]
    plan: Plan


@dataclass(frozen=True)
class Planned:
    """A study's cells and their experiments.

    Attributes:
        places: the places of the experiments in the table.
        jobs: the job of each experiment; experiments with equal plans share a job.
    """

    places: list[Place]
    jobs: Mapping[Experiment, Job]

    @property
    def unique(self) -> list[Job]:
        """The jobs without duplicates, in the order of the study."""
        return list({job.plan.run_dir: job for job in self.jobs.values()}.values())


class Planner:
    """Plans the cells and the jobs of a study.

    Args:
        composer: composes settings from overrides.
        passed_on: overrides of the command line; each applies to all experiments that have its setting.
        may_lack: settings of data sets and methods that the study's YAML fixes; a command may narrow the study to
            choices without them.
    """

    def __init__(self, composer: Composer, passed_on: Sequence[str], may_lack: Collection[str] = ()) -> None:
        self._composer, self._words, self._may_lack = composer, tuple(passed_on), may_lack
        self._passed_on = composer.parse(passed_on)
        self._accepted: dict[tuple[str, str], list[Override]] = {}
        self._entries: dict[str, tuple[str, ...]] = {}

    def _with_choices(self, study: Study) -> "Planner":
        """The planner that passes on the study's choices, too, except where the command line chooses otherwise."""
        chosen = {override.key_or_group for override in self._passed_on}
        added = [f"{group}={option}" for group, option in study.choices.items() if group not in chosen]
        return Planner(self._composer, [*added, *self._words], self._may_lack) if added else self

    def cells(self, study: Study) -> list[Place]:
        """The cells of a study, without planning its experiments.

        Raises:
            DeepSADError: with every problem found.
        """
        return self._with_choices(study)._cells(study)

    def _cells(self, study: Study) -> list[Place]:
        self._check_settings(study)
        found: list[Place] = []
        problems: dict[str, None] = {}
        names: dict[str, str] = {}
        for dataset in study.datasets:
            for method in study.methods:
                try:
                    subject, names[dataset] = self._subject(study, dataset, method)
                    found += places(study, subject)
                except DeepSADError as error:
                    problems |= dict.fromkeys(error.problems)
        problems |= dict.fromkeys(same_name_problems(names))
        if problems:
            raise DeepSADError(*problems)
        return found

    def plan(self, study: Study, extra: Mapping[str, str], *, tasks: int | None = None) -> Planned:
        """Plan every experiment of a study.

        Args:
            study: the study.
            extra: settings without effect on results, for all experiments; the command line takes precedence.
            tasks: number of processes per experiment that a launcher starts on another machine; None if they run here.

        Raises:
            DeepSADError: with every problem found, before any work.
        """
        with image_folder.looked_at_once():
            return self._with_choices(study)._plan(study, extra, tasks)

    def _plan(self, study: Study, extra: Mapping[str, str], tasks: int | None) -> Planned:
        found = self._cells(study)
        jobs: dict[Experiment, Job] = {}
        by_run_dir: dict[Path, Job] = {}
        problems: dict[str, None] = {}
        for experiment in dict.fromkeys(place.experiment for place in found):
            accepted = self._of(experiment.dataset, experiment.method)
            given = {override.key_or_group for override in accepted}
            overrides = [
                *experiment.overrides(_lines(accepted)),
                *(f"{key}={value}" for key, value in extra.items() if key not in given),
            ]
            try:
                plan = self._composer.plan(overrides, tasks=tasks)
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
            else:
                jobs[experiment] = by_run_dir.setdefault(plan.run_dir, Job(tuple(overrides), plan))
        if problems:
            raise DeepSADError(*problems)
        if not jobs:
            raise DeepSADError(
                f"study={study.name} has no experiment left, since no method has a cell with these axes or every known "
                "class is the normal one; narrow the study less"
            )
        return Planned(found, jobs)

    def _subject(self, study: Study, dataset: str, method: str) -> tuple[Subject, str]:
        """Describe a method on a data set; return the name of the latter, too."""
        accepted = self._of(dataset, method)
        chosen = {o.key_or_group: o.value() for o in accepted if not self._composer.is_choice(o)}
        chosen_by = tuple(line for line in self._chosen_by(dataset) if line.split("=")[0] not in chosen)
        shared = [*chosen_by, f"method={method}", *_lines(accepted)]
        first, *others = self._of_dataset(study, lambda key: self._has(dataset, method, accepted, key), chosen)
        settings = self._composer.settings([*shared, *first])
        scenario = settings["scenario"]
        gamma_n = chosen.get("scenario.gamma_n", study.fixed.get("scenario.gamma_n", scenario.get("gamma_n", 0)))
        # With labeled normals, the number of polluting rows depends on gamma_l for every method.
        sees = bool(settings["method"].get("sees_labeled_anomalies", False))
        sees_labels = not of_method(settings["method"]).hides_labeled_anomalies(sees) or gamma_n > 0

        def has(name: str, key: str) -> bool:
            return self._has(dataset, name, self._of(dataset, name), key)

        classes = GIVEN_CLASSES if "given" in scenario else class_names(settings["dataset"])
        if "given" not in scenario and method == study.methods[0]:
            self._require_same_classes(study, dataset, classes, [[*shared, *lines] for lines in others])
        subject = Subject(
            dataset,
            method,
            classes,
            sees_labels,
            scenario,
            chosen,
            has,
            lambda name: self.about(dataset, name),
            None if "given" in scenario else training_classes(settings["dataset"]),
            normal_classes(settings["dataset"], classes),
            chosen_by,
        )
        return subject, str(settings["dataset"]["name"])

    def _require_same_classes(
        self, study: Study, dataset: str, classes: Sequence[str], others: Sequence[Sequence[str]]
    ) -> None:
        """Check that a study's classes mean the same for all values of its axes over a data set's settings.

        Raises:
            DeepSADError: if they do not.
        """
        lists = [one for one in (study.normal_classes, study.anomaly_classes) if isinstance(one, list | tuple)]
        named = {name for one in lists for name in one}
        # Classes that are listed by name need only be there.
        needed = named if len(lists) == 2 and all(isinstance(name, str) for name in named) else None
        for words in others:
            there = class_names(self._composer.settings(words)["dataset"])
            if ({*there} == {*classes}) if needed is None else needed <= {*there}:
                continue
            axes = ", ".join(axis for axis in study.axes if study.keys[axis].startswith("dataset."))
            raise DeepSADError(
                f"the values of study.axes.{axes} give {dataset} different classes, such as {', '.join(classes)} and "
                f"{', '.join(there)}, but a study has the same classes for all values of an axis; list by name those "
                "that all have in study.normal_classes and study.anomaly_classes, or list each value in "
                "study.datasets, such as table/<path>"
            )

    @staticmethod
    def _of_dataset(study: Study, has: Callable[[str], bool], chosen: Collection[str]) -> Iterator[list[str]]:
        """The overrides of the data set's settings for each combination of values that the study gives them."""
        # They may be what a data set cannot do without, such as one of several tables.
        fixed = [
            f"{key}={quoted(value)}"
            for key, value in study.fixed.items()
            if key.startswith("dataset.") and key not in chosen and has(key)
        ]
        axes = {study.keys[axis]: values for axis, values in study.axes.items()}
        varied = [
            [f"{key}={quoted(value)}" for value in values]
            for key, values in axes.items()
            if key.startswith("dataset.") and has(key)
        ]
        for values in itertools.product(*varied):
            yield [*fixed, *values]

    def _chosen_by(self, dataset: str) -> tuple[str, ...]:
        """The overrides that choose the data set of an entry of ``study.datasets``."""
        if dataset not in self._entries:
            self._entries[dataset] = overrides_of(dataset, self._composer)
        return self._entries[dataset]

    def about(self, dataset: str, method: str) -> MethodAbout:
        """The facts that a method declares about itself."""
        base = self._composer.base(self._choices(dataset, method, self._passed_on))
        return of_method(OmegaConf.to_container(base.method))  # type: ignore[arg-type]

    def _of(self, dataset: str, method: str) -> list[Override]:
        """The overrides that apply to a method on a data set."""
        if (dataset, method) not in self._accepted:
            self._accepted[dataset, method] = [
                o
                for o in self._passed_on
                if self._composer.is_choice(o) or self._has(dataset, method, self._passed_on, o.key_or_group)
            ]
        return self._accepted[dataset, method]

    def _has(self, dataset: str, method: str, overrides: Sequence[Override], key: str) -> bool:
        return self._composer.has_key(self._choices(dataset, method, overrides), key)

    def _choices(self, dataset: str, method: str, overrides: Sequence[Override]) -> list[str]:
        return [self._chosen_by(dataset)[0], f"method={method}", *self._composer.choices(overrides)]

    def check_settings(self, study: Study) -> None:
        """Reject settings that none of a study's experiments has.

        Raises:
            DeepSADError: with every problem found.
        """
        self._with_choices(study)._check_settings(study)

    def _check_settings(self, study: Study) -> None:
        subjects = [(dataset, method) for dataset in study.datasets for method in study.methods]
        problems: dict[str, None] = {}
        for dataset, method in subjects:
            try:
                self._of(dataset, method)
            except DeepSADError as error:
                problems |= dict.fromkeys(error.problems)
        if problems:
            raise DeepSADError(*problems)

        names = {
            name: None
            for dataset, method in subjects
            for name in setting_names(self._composer.base(self._choices(dataset, method, self._passed_on)))
        }

        def question(key: str) -> str:
            return suggested(key, names)

        # With given labels nothing is drawn, so the ratios of a study of the paper have no effect.
        fixed = [key for key in study.fixed if "scenario.given" not in names or not key.startswith("scenario.")]
        variants = {key: (method,) for method in study.methods for key in study.variants.get(method, ())}
        for key, methods in {**dict.fromkeys((*fixed, *study.keys.values()), study.methods), **variants}.items():
            if not any(self._has(d, m, self._of(d, m), key) for d in study.datasets for m in methods):
                group, _, name = key.partition(".")
                if key in self._may_lack and group in _VARYING and any(name in one for one in own(group).values()):
                    continue
                if "scenario.given" in names and key.startswith("scenario."):
                    problems[_nothing_is_drawn(study, key)] = None
                    continue
                way_out = question(key) or "choose one that has it"
                problems[f"study={study.name} sets {key}, which none of its methods has; {way_out}"] = None
        used = [o for accepted in self._accepted.values() for o in accepted]
        for unused in (o for o in self._passed_on if o not in used):
            key = str(unused.key_or_group)
            group = key.split(".")[0]
            by_method = group not in ("scenario", "threshold", "network")
            who = f"none of the methods {', '.join(study.methods)}" if by_method else "no experiment of the study"
            way_out = question(key) or f"leave it out or choose a {'method' if by_method else group} that has it"
            problems[f"{unused.input_line}: {who} has {key}; {way_out}"] = None
        if problems:
            raise DeepSADError(*problems)


def by_round(jobs: Sequence[Job]) -> list[list[Job]]:
    """Divide jobs so that each comes after those whose scores decide what it asks about; otherwise in their order."""
    rounds: dict[int, list[Job]] = {}
    for job in jobs:
        plan, number = job.plan, 0
        while plan.previous_round is not None:
            plan, number = plan.previous_round, number + 1
        rounds.setdefault(number, []).append(job)
    return [rounds[number] for number in sorted(rounds)]


def _lines(overrides: Sequence[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides]


def _nothing_is_drawn(study: Study, key: str) -> str:
    return (
        f"study={study.name} varies {key}, but the labels of dataset={', '.join(study.datasets)} are given "
        "(scenario=given), so that nothing is drawn; choose another study, or scenario=default if the data have classes"
    )
