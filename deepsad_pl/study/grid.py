"""The grid of a study: its experiments and the table cells they belong to. Imports neither torch nor Hydra."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.data.class_names import read_alike, resolve_class
from deepsad_pl.data.queried_labels import is_queried
from deepsad_pl.settings.about import MethodAbout, column_of
from deepsad_pl.settings.checks import names_a_folder
from deepsad_pl.study.sample import balanced_sample

Value = str | int | float | None

# Which methods an axis affects, if the study does not list them.
ALL, SEEING_LABELS = "all", "seeing_labels"
# In place of the normal class, where the labels come with the data.
GIVEN = "given"
FIGURES = ("auroc", "regions", "budget")
_KNOWN_CLASS, _NORMAL_CLASS, _SEED = "scenario.anomaly_class", "scenario.normal_class", "seed"


@dataclass(frozen=True)
class Study:
    """A study, as defined in ``conf/study/*.yaml``.

    Attributes:
        name: name of the study, its YAML file and its folder.
        title: title in words.
        datasets: choices of ``dataset``.
        methods: choices of ``method``.
        axes: the values of each axis; the rows of the table are their product.
        keys: the setting that each axis varies.
        depends: the methods that each axis affects: ``all``, ``seeing_labels`` or a list of methods. Other methods are
            run once and shown in every row.
        fixed: settings that all experiments share.
        variants: for a method, alternative settings; its column shows the best.
        normal_classes: the normal classes in turn, names or indices; ``all`` for each class of the training data.
        anomaly_classes: the known classes in turn, skipping the normal one; ``all``; or None to draw them by the seed.
        seeds: the seeds in turn.
        paper: whether the paper reports results for it.
        figure: ``auroc``; ``regions`` for the decision regions of the paper's Figure 1; or ``budget`` for AUROC over
            the number of labels.
        choices: the option that all experiments choose of a group, such as a scenario.
        sample: number of pairs of a normal and a known class that are run; None: all. If the seed draws the known
            classes, the pairs are of a normal class and a seed.
        sample_seed: determines which pairs are run, see :func:`deepsad_pl.study.sample.balanced_sample`.
    """

    name: str
    title: str
    datasets: Sequence[str]
    methods: Sequence[str]
    axes: Mapping[str, Sequence[Value]]
    keys: Mapping[str, str]
    depends: Mapping[str, str | Sequence[str]]
    fixed: Mapping[str, Value]
    variants: Mapping[str, Mapping[str, Sequence[Value]]]
    normal_classes: str | Sequence[str | int]
    anomaly_classes: str | Sequence[str | int] | None
    seeds: Sequence[int]
    paper: bool = False
    figure: str = "auroc"
    choices: Mapping[str, str] = field(default_factory=dict)
    sample: int | None = None
    sample_seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A method on a data set, with the facts that the grid needs.

    Attributes:
        dataset: choice of ``dataset``.
        method: choice of ``method``.
        classes: names of the data set's classes.
        sees_labels: whether labeled anomalies affect the method.
        scenario: the scenario's settings before the study changes any.
        chosen: settings that the command line fixes for every experiment.
        has: function that tells whether a method has a setting; the study sets no others.
        about: the facts about a method.
        in_training: names of the classes in the training data; None if it has all classes.
    """

    dataset: str
    method: str
    classes: Sequence[str]
    sees_labels: bool
    scenario: Mapping[str, Any]
    chosen: Mapping[str, Any]
    has: Callable[[str, str], bool]
    about: Callable[[str], MethodAbout]
    in_training: Sequence[str] | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment, described by the settings that the study sets.

    Attributes:
        dataset: choice of ``dataset``.
        method: choice of ``method``.
        settings: keys and values, in the order of the command line.
        quote: whether to quote class names that are numbers, since Hydra parses different ones as the same number.
    """

    dataset: str
    method: str
    settings: tuple[tuple[str, Value], ...]
    quote: bool = False

    def overrides(self) -> list[str]:
        """The overrides after ``python train.py``."""
        names = (_NORMAL_CLASS, _KNOWN_CLASS) if self.quote else ()
        settings = [f"{key}={quoted(value, number=key in names)}" for key, value in self.settings]
        return [f"dataset={self.dataset}", f"method={self.method}", *settings]


@dataclass(frozen=True)
class Place:
    """An experiment in a cell of the table; an experiment that no axis affects has a place in every row.

    Attributes:
        experiment: the experiment.
        column: column of the table.
        variant: variant of the method, if the column shows the best of several.
        row: the value of each axis.
        normal_class: name of the normal class; :data:`GIVEN` if the labels come with the data.
        anomaly_class: name of the known class; None if the experiment does not depend on it or the seed draws it.
        seed: seed of the experiment.
        borrowed: the column from which the experiment is taken, if it is another one.
        population: number of experiments from which ``study.sample`` drew those of its cell; None if nothing was drawn.
    """

    experiment: Experiment
    column: str
    variant: str
    row: tuple[Value, ...]
    normal_class: str
    anomaly_class: str | None
    seed: int
    borrowed: str | None
    population: int | None = None


def study_problems(study: Study, methods: Sequence[str]) -> list[str]:
    """List the problems of a study that do not depend on its data sets.

    Args:
        study: the study.
        methods: all available methods.
    """
    problems = list(names_a_folder("study.name", study.name))
    problems += [
        f"study.{name} is empty; list at least one"
        for name in ("datasets", "methods", "seeds")
        if not getattr(study, name)
    ]
    problems += [f"study.axes.{axis} is empty; list at least one value" for axis in study.axes if not study.axes[axis]]
    problems += [
        f"study.{part} has no entry for the axis {axis}; {what}"
        for part, what in (
            ("keys", "name the setting that it sets"),
            ("depends", "choose all, seeing_labels or methods"),
        )
        for axis in study.axes
        if axis not in getattr(study, part)
    ]
    problems += [
        f"method={method} is unknown; choose from {', '.join(methods)}"
        for method in dict.fromkeys([*study.methods, *study.variants])
        if method not in methods
    ]
    for axis, who in study.depends.items():
        if who not in (ALL, SEEING_LABELS) and not isinstance(who, list | tuple):
            problems.append(f"study.depends.{axis} is {who}; it must be {ALL}, {SEEING_LABELS} or a list of methods")
    for name in ("normal_classes", "anomaly_classes"):
        requested = getattr(study, name)
        if requested is None and name == "anomaly_classes":
            continue
        if requested != ALL and not (isinstance(requested, list | tuple) and requested):
            problems.append(f"study.{name} is {requested!r}; it must be all or a list of classes, such as [0]")
        elif isinstance(requested, list | tuple) and (
            lists := [one for one in requested if isinstance(one, list | tuple)]
        ):
            problems.append(
                f"study.{name} has the list {lists[0]}, but a study takes its classes one at a time; leave the inner "
                "brackets out, or sweep scenario.anomaly_class=[...] without study="
            )
    for key in ("datasets", "methods", "seeds", *(f"axes.{axis}" for axis in study.axes)):
        values = study.axes[key[5:]] if key.startswith("axes.") else getattr(study, key)
        if twice := sorted({str(value) for value in values if list(values).count(value) > 1}):
            problems.append(f"study.{key} has {', '.join(twice)} more than once; list each value once")
    if study.figure not in FIGURES:
        problems.append(f"study.figure is {study.figure}; choose {', '.join(FIGURES)}")
    if study.sample is not None and study.sample < 1:
        problems.append(f"study.sample is {study.sample}; give a number of pairs of at least 1, or null for all")
    if not 0 <= study.sample_seed < 2**32:
        problems.append(f"study.sample_seed is {study.sample_seed}; it must be an integer in [0, 2^32)")
    return problems


def places(study: Study, subject: Subject) -> list[Place]:
    """Place a method's experiments on a data set into all cells that the method can have.

    Args:
        study: the study.
        subject: one of its methods on one of its data sets.

    Raises:
        DeepSADError: if a class does not exist, or there are too few pairs of classes for the sample.
    """
    sampled = None if study.sample is None else _sampled(study, subject, study.sample)
    found: list[Place] = []
    for row in itertools.product(*study.axes.values()):
        found += _cell(study, subject, dict(zip(study.axes, row, strict=True)), sampled)
    return found


def _sampled(study: Study, subject: Subject, size: int) -> Callable[[str, str | None, int], bool]:
    """Whether an experiment's normal class, known class and seed are in the study's sample.

    The pairs are the same for all methods and values of the axes, so that experiments can be compared in pairs. A
    method that is run once for all known classes is run for each normal class of the sample.
    """
    if "given" in subject.scenario:
        raise DeepSADError(
            f"study.sample is {size}, but dataset={subject.dataset} comes with its labels, so there are no pairs of "
            "classes to draw from; leave study.sample out"
        )
    normals = _normal_classes(study, subject)
    drawn_by_seed = study.anomaly_classes is None
    pairs: list[tuple[str, str | int]]
    if study.anomaly_classes is None:
        pairs, kind = list(itertools.product(normals, study.seeds)), "a normal class and a seed"
    else:
        known = _classes(study.anomaly_classes, subject, "anomaly_classes")
        pairs = [(normal, other) for normal, other in itertools.product(normals, known) if normal != other]
        kind = "a normal and a known class"
    if size >= len(pairs):
        raise DeepSADError(
            f"study.sample is {size}, but dataset={subject.dataset} has {counted(len(pairs), 'pair')} of {kind}; give "
            "a smaller number, or leave it out"
        )
    drawn = set(balanced_sample(pairs, size, study.sample_seed))
    of_normals = {normal for normal, _ in drawn}

    def is_drawn(normal: str, known: str | None, seed: int) -> bool:
        if drawn_by_seed:
            return (normal, seed) in drawn
        return normal in of_normals if known is None else (normal, known) in drawn

    return is_drawn


def _cell(
    study: Study,
    subject: Subject,
    row: Mapping[str, Value],
    is_drawn: Callable[[str, str | None, int], bool] | None,
) -> Iterator[Place]:
    kind = subject.about(subject.method)
    set_by_row = {study.keys[axis]: value for axis, value in row.items()}
    scenario = {**subject.scenario, **_scenario_part({**study.fixed, **subject.chosen, **set_by_row})}
    given, queried = "given" in subject.scenario, is_queried(dict(subject.scenario))
    labeled = given or queried or (scenario["gamma_l"] != 0 and scenario["k_l"] != 0)
    if not labeled and kind.labels == "needed":
        return
    method, sees_labels = subject.method, subject.sees_labels
    if not labeled and kind.without_labels:
        method, sees_labels = kind.without_labels, False
    column = column_of(subject.method, kind)
    borrowed = None if method == subject.method else column_of(method, subject.about(method))

    axes = {
        study.keys[axis]: value for axis, value in row.items() if _depends(study.depends[axis], method, sees_labels)
    }
    quote = read_alike(subject.classes)
    set_by_study = {key: value for key, value in {**study.fixed, **axes}.items() if subject.has(method, key)}
    for variant in _variants(study, method, subject.chosen):
        label = ", ".join([method, *(f"{key.split('.')[-1]} {value}" for key, value in variant.items())])
        shared = {**set_by_study, **variant}
        normals = [GIVEN] if given else _normal_classes(study, subject)
        known: Sequence[str | None] = (None,)
        if not (given or queried) and sees_labels and labeled and study.anomaly_classes is not None:
            known = _classes(study.anomaly_classes, subject, "anomaly_classes")
        every = [one for one in itertools.product(normals, study.seeds, known) if one[2] != one[0]]
        for normal, seed, anomaly in every:
            if is_drawn is not None and not is_drawn(normal, anomaly, seed):
                continue
            classes: dict[str, Value] = {} if given else {_NORMAL_CLASS: normal}
            # Where labels are asked for, an anomaly of any class may be found.
            classes |= {} if given or queried else {_KNOWN_CLASS: anomaly}
            settings = {**shared, **classes, _SEED: seed}
            kept = tuple((key, value) for key, value in settings.items() if key not in subject.chosen)
            experiment = Experiment(subject.dataset, method, kept, quote)
            values = tuple(row.values())
            population = None if is_drawn is None else len(every)
            yield Place(experiment, column, label, values, normal, anomaly, seed, borrowed, population)


def _scenario_part(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("scenario."): value for key, value in settings.items() if key.startswith("scenario.")}


def _depends(who: str | Sequence[str], method: str, sees_labels: bool) -> bool:
    if isinstance(who, str):
        return who == ALL or sees_labels
    return method in who


def _variants(study: Study, method: str, chosen: Mapping[str, Any]) -> Iterator[dict[str, Value]]:
    tried = {key: values for key, values in study.variants.get(method, {}).items() if key not in chosen}
    for values in itertools.product(*tried.values()):
        yield dict(zip(tried, values, strict=True))


def _normal_classes(study: Study, subject: Subject) -> list[str]:
    return _classes(study.normal_classes, subject, "normal_classes")


def _classes(requested: str | Sequence[str | int], subject: Subject, key: str) -> list[str]:
    there = subject.classes if subject.in_training is None else subject.in_training
    if requested == ALL:
        # Classes missing from the training data are novel: they can be neither normal nor known.
        return list(there)
    try:
        found = dict.fromkeys(subject.classes[resolve_class(name, subject.classes)] for name in requested)
    except DeepSADError as error:
        raise DeepSADError(f"study.{key} on dataset={subject.dataset}: {error}") from None
    if novel := [name for name in found if name not in there]:
        raise DeepSADError(
            f"study.{key} on dataset={subject.dataset}: the training data have no row of {', '.join(novel)}; choose "
            f"among the classes that they have: {', '.join(there)}"
        )
    return list(found)
