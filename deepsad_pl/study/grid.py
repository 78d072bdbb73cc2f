"""The grid of a study: its experiments and the table cells they belong to. Imports neither torch nor Hydra."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.override_text import override_text, quoted
from deepsad_pl.data.class_names import read_alike, resolve_class
from deepsad_pl.data.queried_labels import is_queried
from deepsad_pl.data.scenario import labels_anomalies
from deepsad_pl.settings.about import MethodAbout, column_of
from deepsad_pl.settings.checks import names_a_folder
from deepsad_pl.study.result_columns import NOT_AN_AXIS
from deepsad_pl.study.sample import balanced_sample

Value = str | int | float | None
# One class, or several together.
Classes = str | tuple[str, ...]

# Which methods an axis affects, if the study does not list them.
ALL, SEEING_LABELS = "all", "seeing_labels"
# In place of the normal class, where the labels come with the data.
GIVEN = "given"
# In place of the normal classes: those that each data set itself calls normal, together.
DECLARED = "declared"
# In place of the known classes: all classes but the normal ones, together.
TOGETHER = "together"
FIGURES = ("auroc", "regions", "budget", "ranks")
_KNOWN_CLASS, _NORMAL_CLASS, _SEED = "scenario.anomaly_class", "scenario.normal_class", "seed"
_LABELS = "scenario.labels"
_OF_A_BUDGET = ("scenario.rounds", "scenario.query_by")


@dataclass(frozen=True)
class Study:
    """A study, as defined in ``conf/study/*.yaml``.

    Attributes:
        name: name of the study, its YAML file and its folder.
        title: title in words.
        datasets: choices of ``dataset``, or their tables (:mod:`deepsad_pl.study.dataset_entries`).
        methods: choices of ``method``.
        axes: the values of each axis; the rows of the table are their product.
        keys: the setting that each axis varies.
        depends: the methods that each axis affects: ``all``, ``seeing_labels`` or a list of methods. Other methods are
            run once and shown in every row.
        fixed: settings that all experiments share.
        variants: for a method, alternative settings; its column shows the best.
        normal_classes: the normal classes in turn, names or indices; ``all`` for each class of the training data; or
            ``declared`` for those that the data set itself calls normal, together.
        anomaly_classes: the known classes in turn, skipping the normal one; ``all``; ``together`` for all of them at
            once; or None to draw them by the seed.
        seeds: the seeds in turn.
        paper: whether the paper reports results for it.
        metric: the metric of its tables, tests and figures: one of the package's, or a user-defined one.
        figure: ``auroc`` for the metric over the axis; ``regions`` for the decision regions of the paper's Figure 1;
            ``budget`` for the metric over the number of labels; or ``ranks`` of the methods over many data sets.
        choices: the option that all experiments choose of a group, such as a scenario.
        results: a CSV file with one row per finished experiment. With ``figure=ranks``, it is reported without any run
            folder; in other studies, experiments that it has are not run again, and new ones are written into it. None:
            only run folders count.
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
    metric: str = "auroc"
    figure: str = "auroc"
    choices: Mapping[str, str] = field(default_factory=dict)
    results: str | None = None
    sample: int | None = None
    sample_seed: int = 0


@dataclass(frozen=True)
class Subject:
    """A method on a data set, with the facts that the grid needs.

    Attributes:
        dataset: entry of ``study.datasets``.
        method: choice of ``method``.
        classes: names of the data set's classes.
        sees_labels: whether labeled anomalies affect the method.
        scenario: the scenario's settings before the study changes any.
        chosen: settings that the command line fixes for every experiment.
        has: function that tells whether a method has a setting; the study sets no others.
        about: the facts about a method.
        in_training: names of the classes in the training data; None if it has all classes.
        normal: the classes that the data set itself calls normal.
        chosen_by: the overrides that choose the data set; None: ``dataset=<dataset>``.
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
    normal: Sequence[str] = ()
    chosen_by: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment, described by the settings that the study sets.

    Attributes:
        dataset: entry of ``study.datasets``.
        method: choice of ``method``.
        settings: keys and values, in the order of the command line.
        quote: whether to quote class names that are numbers, since Hydra parses different ones as the same number.
        chosen_by: the overrides that choose the data set; None: ``dataset=<dataset>``.
    """

    dataset: str
    method: str
    settings: tuple[tuple[str, Value | Classes], ...]
    quote: bool = False
    chosen_by: tuple[str, ...] | None = None

    def overrides(self, shared: Sequence[str] = ()) -> list[str]:
        """The overrides after ``python train.py``.

        Args:
            shared: overrides of all experiments, which these settings come after.
        """
        names = (_NORMAL_CLASS, _KNOWN_CLASS) if self.quote else ()
        settings = [
            f"{key}={override_text(value) if isinstance(value, tuple) else quoted(value, number=key in names)}"
            for key, value in self.settings
        ]
        return [*(self.chosen_by or [f"dataset={self.dataset}"]), f"method={self.method}", *shared, *settings]


@dataclass(frozen=True)
class Place:
    """An experiment in a cell of the table; an experiment that no axis affects has a place in every row.

    Attributes:
        experiment: the experiment.
        column: column of the table.
        variant: variant of the method, if the column shows the best of several.
        row: the value of each axis.
        normal_class: name of the normal class, or of several with +; :data:`GIVEN` if the labels come with the data.
        anomaly_class: name of the known class; None if the experiment does not depend on it or the seed draws it.
        seed: seed of the experiment.
        borrowed: the column from which the experiment is taken, if it is another one.
        stands_for: for an experiment that knows no anomaly class, the ``scenario.anomaly_class`` of each experiment
            of the cell that would, so that known and novel anomalies are told apart alike for all methods; else None.
        k_l: the ``scenario.k_l`` of these.
        drawn_from: the pairs of a normal and a known class that the study gives its cell, sampled or not, as a short
            hash: cells with different ones are means over different classes.
        seed_draws: whether the seed draws the known classes, so that each seed is another draw.
        population: number of pairs from which ``study.sample`` drew those of its cell, a pair being of a normal
            class and a seed if ``seed_draws``; None if nothing was drawn.
        pairs: number of pairs from which it drew, see :class:`Study`; for a method that sees labels, this is usually
            the same.
    """

    experiment: Experiment
    column: str
    variant: str
    row: tuple[Value, ...]
    normal_class: str
    anomaly_class: str | None
    seed: int
    borrowed: str | None
    stands_for: tuple[Classes | None, ...] | None = None
    k_l: int = 0
    drawn_from: str = ""
    seed_draws: bool = False
    population: int | None = None
    pairs: int | None = None


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
    problems += _set_by_itself(study)
    for axis, who in study.depends.items():
        if who not in (ALL, SEEING_LABELS) and not isinstance(who, list | tuple):
            problems.append(f"study.depends.{axis} is {who}; it must be {ALL}, {SEEING_LABELS} or a list of methods")
    for name in ("normal_classes", "anomaly_classes"):
        requested = getattr(study, name)
        if requested is None and name == "anomaly_classes":
            continue
        words = (ALL, DECLARED if name == "normal_classes" else TOGETHER)
        if requested not in words and not (isinstance(requested, list | tuple) and requested):
            told = ", ".join(words)
            problems.append(f"study.{name} is {requested!r}; it must be {told} or a list of classes, such as [0]")
        elif isinstance(requested, list | tuple) and (
            lists := [one for one in requested if isinstance(one, list | tuple)]
        ):
            problems.append(
                f"study.{name} has the list {lists[0]}, but a study takes its classes one at a time; leave the inner "
                "brackets out, or sweep scenario.anomaly_class=[...] without study="
            )
    for key in ("datasets", "methods", "seeds", *(f"axes.{axis}" for axis in study.axes)):
        values = study.axes[key[5:]] if key.startswith("axes.") else getattr(study, key)
        # 0.05 and '0.05' are the same setting.
        texts = [str(value) for value in values]
        if twice := sorted({str(one) for one in values if list(values).count(one) > 1 or texts.count(str(one)) > 1}):
            problems.append(f"study.{key} has {', '.join(twice)} more than once; list each value once")
    fixed: Mapping[str, Any] = study.fixed
    problems += [
        f"study.fixed sets {key} to {dict(value)}, which is no value; write the whole name of the setting in braces: "
        f"'study.fixed={{{key}.{next(iter(value))}:...}}'"
        for key, value in fixed.items()
        if isinstance(value, Mapping) and value
    ]
    if study.figure not in FIGURES:
        problems.append(f"study.figure is {study.figure}; choose {', '.join(FIGURES)}")
    problems += [*_problems_of_ranks(study), *_problems_of_budget(study)]
    if study.sample is not None and study.sample < 1:
        problems.append(f"study.sample is {study.sample}; give a number of pairs of at least 1, or null for all")
    if not 0 <= study.sample_seed < 2**32:
        problems.append(f"study.sample_seed is {study.sample_seed}; it must be an integer in [0, 2^32)")
    return problems


def _set_by_itself(study: Study) -> Iterator[str]:
    """Yield a message for each place that sets what ``study.seeds`` and the lists of classes set."""
    instead = {
        _SEED: "study.seeds=[0,1]",
        _NORMAL_CLASS: "study.normal_classes=[0,1]",
        _KNOWN_CLASS: "study.anomaly_classes=[0,1]",
    }
    named = [(f"study.keys.{axis}", study.keys[axis]) for axis in study.axes if axis in study.keys]
    named += [("study.fixed", key) for key in study.fixed]
    named += [(f"study.variants.{method}", key) for method, tried in study.variants.items() for key in tried]
    for place, key in named:
        if key in instead:
            yield f"{place} sets {key}, which a study has a list of its own for; leave it out and set {instead[key]}"
    taken = sorted({*study.axes} & NOT_AN_AXIS)
    if taken:
        yield f"study.axes has {', '.join(taken)}, which results.csv has as a column of its own; choose another name"


def _problems_of_ranks(study: Study) -> Iterator[str]:
    if study.figure != "ranks":
        if study.results is not None and study.figure != "auroc":
            yield (
                f"study.results is {study.results}, but study.figure={study.figure} needs the run folders of all "
                "experiments; leave study.results out"
            )
        return
    for axis in study.axes:
        if study.keys.get(axis, _LABELS) != _LABELS:
            yield (
                f"study.axes.{axis} varies {study.keys[axis]}, but study.figure=ranks compares methods for each number "
                f"of labeled anomalies, {_LABELS}, only; choose study.figure=auroc or give the axis one value in "
                "study.fixed"
            )


def _problems_of_budget(study: Study) -> Iterator[str]:
    if study.figure != "budget":
        return
    for axis in study.axes:
        key = study.keys.get(axis)
        if key is not None and key not in _OF_A_BUDGET:
            yield (
                f"study.axes.{axis} varies {key}, but study.figure=budget shows rounds and strategies "
                f"({', '.join(_OF_A_BUDGET)}) only; choose study.figure=auroc or give the axis one value in study.fixed"
            )


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


@dataclass(frozen=True)
class _Sample:
    """The pairs that ``study.sample`` drew.

    Attributes:
        drawn: the pairs of a normal and a known class, or of a normal class and a seed.
        by_seed: whether they are pairs with a seed.
        pairs: number of pairs from which they were drawn.
    """

    drawn: frozenset[tuple[Classes, Classes | int | None]]
    by_seed: bool
    pairs: int

    def has(self, normal: Classes, known: Classes | None, seed: int) -> bool:
        """Whether the experiment is in the sample; if it has no known class, whether its normal class is."""
        if self.by_seed:
            return (normal, seed) in self.drawn
        return (normal, known) in self.drawn or (known is None and normal in {first for first, _ in self.drawn})


def _sampled(study: Study, subject: Subject, size: int) -> _Sample:
    """Draw the study's sample.

    The pairs are the same for all methods and values of the axes, so that experiments can be compared in pairs. A
    method that is run once for all known classes is run for each normal class of the sample.
    """
    if "given" in subject.scenario:
        raise DeepSADError(
            f"study.sample is {size}, but dataset={subject.dataset} comes with its labels, so there are no pairs of "
            "classes to draw from; leave study.sample out"
        )
    normals = _normal_classes(study, subject)
    pairs: list[tuple[Classes, Classes | int | None]]
    if study.anomaly_classes is None:
        pairs, kind = list(itertools.product(normals, study.seeds)), "a normal class and a seed"
    else:
        pairs = [(normal, known) for normal in normals for known in _known_in_cell(study, subject, normal)]
        kind = "a normal and a known class"
    if size >= len(pairs):
        raise DeepSADError(
            f"study.sample is {size}, but dataset={subject.dataset} has {counted(len(pairs), 'pair')} of {kind}; give "
            "a smaller number, or leave it out"
        )
    drawn = frozenset(balanced_sample(pairs, size, study.sample_seed))
    return _Sample(drawn, study.anomaly_classes is None, len(pairs))


def _cell(
    study: Study,
    subject: Subject,
    row: Mapping[str, Value],
    sample: _Sample | None,
) -> Iterator[Place]:
    kind = subject.about(subject.method)
    set_by_row = {study.keys[axis]: value for axis, value in row.items()}
    scenario = {**subject.scenario, **_scenario_part({**study.fixed, **subject.chosen, **set_by_row})}
    given, queried = "given" in subject.scenario, is_queried(dict(subject.scenario))
    labeled = given or queried or labels_anomalies(scenario)
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
        with_known = sees_labels and labeled and not (given or queried)
        every = [
            (normal, seed, anomaly)
            for normal, seed in itertools.product(normals, study.seeds)
            for anomaly in (_known_in_cell(study, subject, normal) if with_known else (None,))
        ]
        classes_of_cell = sorted(
            {(joined(normal), anomaly and joined(anomaly)) for normal, _, anomaly in every}, key=str
        )
        drawn_from = hashlib.sha256(repr(classes_of_cell).encode()).hexdigest()[:8]
        seed_draws = study.anomaly_classes is None
        for normal, seed, anomaly in every:
            if sample is not None and not sample.has(normal, anomaly, seed):
                continue
            classes: dict[str, Value | Classes] = {} if given else {_NORMAL_CLASS: normal}
            # Where labels are asked for, an anomaly of any class may be found.
            classes |= {} if given or queried else {_KNOWN_CLASS: anomaly}
            settings = {**shared, **classes, _SEED: seed}
            kept = tuple((key, value) for key, value in settings.items() if key not in subject.chosen)
            experiment = Experiment(subject.dataset, method, kept, quote, subject.chosen_by)
            names = [None if one is None else joined(one) for one in (normal, anomaly)]
            place = Place(experiment, column, label, tuple(row.values()), names[0] or "", names[1], seed, borrowed)
            place = replace(place, drawn_from=drawn_from, seed_draws=seed_draws)
            if sample is not None:
                population = len(every) if seed_draws else len(every) // len(study.seeds)
                place = replace(place, population=population, pairs=sample.pairs)
            if given or queried or (sees_labels and labeled):
                yield place
            else:
                known = _known_in_cell(study, subject, normal)
                if sample is not None:
                    known = tuple(one for one in known if sample.has(normal, one, seed))
                yield replace(place, stands_for=known, k_l=scenario["k_l"])


def _known_in_cell(study: Study, subject: Subject, normal: Classes) -> tuple[Classes | None, ...]:
    """The known classes of a cell, as the settings of the experiments that see labels have them."""
    if study.anomaly_classes is None:
        return (None,)
    return tuple(_known_classes(study.anomaly_classes, subject, normal))


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


def _normal_classes(study: Study, subject: Subject) -> list[Classes]:
    if study.normal_classes != DECLARED:
        return [*_classes(study.normal_classes, subject, "normal_classes")]
    if not subject.normal:
        raise DeepSADError(
            f"study.normal_classes on dataset={subject.dataset}: it does not say which of its classes "
            f"{', '.join(subject.classes)} is normal; set dataset.normal=[...] if it has that setting, or "
            "study.normal_classes=[...]"
        )
    return [_together(_classes([*subject.normal], subject, "normal_classes"))]


def _known_classes(requested: str | Sequence[str | int], subject: Subject, normal: Classes) -> list[Classes]:
    """The known classes in turn, without the normal ones; with :data:`TOGETHER` all of them at once."""
    normals = normal if isinstance(normal, tuple) else (normal,)
    wanted = ALL if requested == TOGETHER else requested
    found = [name for name in _classes(wanted, subject, "anomaly_classes") if name not in normals]
    return [_together(found)] if requested == TOGETHER and found else [*found]


def _together(names: Sequence[str]) -> Classes:
    return names[0] if len(names) == 1 else tuple(names)


def joined(names: Classes) -> str:
    """The name of a class, or of several together, as tables have it."""
    return names if isinstance(names, str) else "+".join(names)


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
