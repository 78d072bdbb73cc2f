"""``about``: facts that a choice declares about itself, for checks, plans and reports. Does not import torch.

They are never a part of a run's identity. See ``docs/components.md`` for examples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import AtLeast1, AtLeast2, NonNegative, Positive, problems

Settings = Mapping[str, Any]

_PACKAGE = Path(__file__).resolve().parent.parent
# conf/ lies beside the package in a checkout, and inside the package once it is installed.
_CHECKOUT_CONF = _PACKAGE.parent / "conf"
CONF = _CHECKOUT_CONF if (_CHECKOUT_CONF / "train.yaml").exists() else _PACKAGE / "conf"


@dataclass(frozen=True)
class TrainingAbout:
    """Facts about a pre-training or a method.

    Attributes:
        sized_by_network: whether ``hidden`` and ``latent`` take their values from the network if they are null.
        needs_unit_interval: for a setting, the value that requires inputs in [0, 1].
        cost: of an epoch, in multiples of Deep SAD's with the same network. For a shallow method, see
            :class:`MethodAbout`. None: it is not known, so there is no estimate of the time beforehand.
    """

    sized_by_network: bool = False
    needs_unit_interval: Mapping[str, Any] = field(default_factory=dict)
    cost: Positive | None = None


@dataclass(frozen=True)
class MethodAbout(TrainingAbout):
    """Facts about a method.

    Attributes:
        shallow: whether a function fits it on arrays, instead of the Trainer training it.
        pretrain: the choices of ``pretrain`` that it may start from.
        labels: how it treats labeled anomalies: ``seen``; ``hidden`` from it unless ``sees_labeled_anomalies`` is set;
            or ``needed``.
        is_pretraining: whether its training is the same as the pre-training of that name, so that experiments share it.
        unused_without_labels: settings that have no effect if nothing is labeled.
        unused: for a setting and its value, the other settings that have no effect then.
        same_without_anomalies: for a setting and its value, the equivalent value if no anomaly is labeled.
        needs_labeled_normals: for a setting, the value that requires labeled normal samples.
        without_labels: the method to which it is equivalent if nothing is labeled.
        check: dotted path of a function of ``semi_y`` and the settings that rejects unsuitable training rows.
        holdout_folds: whether ``selection=holdout`` with given labels is a cross-validation over the labeled anomalies
            (``Task.holdout_folds``).
        files: settings that hold the path of a file; a run's identity has the file's content instead of its path.
        needs_extra: a module that the method imports, and the extra of the package that installs it.
        stack: family of methods that share one hand-written objective and can be trained in one stack.
        column: column of a study's tables; several variants may share one. None: the method's name.
        heading: heading of that column. None: the column.
        title: title of a panel with the method alone. None: the heading.
        rank: position of the column in a table; columns without a rank come last.
        style: how its curve is drawn: color, line, marker and whether it is in front.
        threshold: the score above which the method itself classifies a sample as an anomaly, if it has one.
        from_test: for a setting, the value that was chosen knowing AUROC on test data, which reports mention.
        cost: of a shallow method: of a fit on 1,000 rows of 100 columns, in multiples of
            :func:`~deepsad_pl.study.machine_speed.probe_seconds`; else as above.
        cost_rows: the power of the number of rows with which the cost of a shallow method grows.
        cost_columns: likewise for the number of columns.
        cost_times: settings by which its cost is multiplied: by the number, or by the length of the list.
    """

    shallow: bool = False
    pretrain: list[str] = field(default_factory=lambda: ["none"])
    labels: Literal["seen", "hidden", "needed"] = "seen"
    is_pretraining: bool = False
    unused_without_labels: list[str] = field(default_factory=list)
    unused: Mapping[str, Any] = field(default_factory=dict)
    same_without_anomalies: Mapping[str, Any] = field(default_factory=dict)
    needs_labeled_normals: Mapping[str, Any] = field(default_factory=dict)
    without_labels: str | None = None
    check: str | None = None
    holdout_folds: bool = False
    files: list[str] = field(default_factory=list)
    needs_extra: Mapping[str, str] = field(default_factory=dict)
    stack: str | None = None
    column: str | None = None
    heading: str | None = None
    title: str | None = None
    rank: int | None = None
    style: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    from_test: Mapping[str, Any] = field(default_factory=dict)
    cost_rows: NonNegative = 1.0
    cost_columns: NonNegative = 0.0
    cost_times: list[str] = field(default_factory=list)

    def hides_labeled_anomalies(self, sees_labeled_anomalies: bool) -> bool:
        """Whether the method is unsupervised and, by the setting of that name, does not see labeled anomalies."""
        return self.labels == "hidden" and not sees_labeled_anomalies


@dataclass(frozen=True)
class DatasetAbout:
    """Facts about a data set.

    Attributes:
        inputs: ``images`` of 8-bit pixels, or ``rows`` of a table.
        own_test_set: whether it has a fixed split into training and test set; else the split depends on the seed.
        classes: number of classes, if known beforehand.
        classes_from_folder: whether the classes are the sub-folders of ``dataset.root``.
        files: settings that hold the path of a file, or a list of paths; a run's identity has the files' contents.
        label_files: settings that hold the path of a file with labels that were filled in later, or a list of paths;
            if one is set, a run's identity has the files' contents. With it, ``score.py query=...`` asks for labels.
        check: dotted path of a function of the settings that yields a sentence for each problem with them. It is
            imported when a configuration is checked, so its module should import little. If it takes ``given``, it is
            told whether the labels come with the data.
        columns: dotted path of a function of the settings that returns the number of columns, from which the widths of
            the recommended network follow if its ``units`` are null.
        class_names: dotted path of a function of the settings that returns the names of the classes.
        content: dotted path of a function ``(settings, cache_dir)`` that returns, as values for JSON, what else
            determines the data, for a run's identity, such as a hash of their files. The entry ``files`` is passed to
            the data set's own function as ``digest``.
        entry: the setting that says which of several tables it is. An entry of ``study.datasets`` may give it after a
            slash, such as ``adbench/cardio``. None: the choice is one data set.
        shape: of a sample: channels, height and width, or the number of columns; for an estimate of the time.
        rows: number of rows of each class, in their order: of the training data if it has its own test set, else of
            all data. Without it or ``shape``, there is no estimate of the time beforehand.
    """

    inputs: Literal["images", "rows"] = "rows"
    own_test_set: bool = False
    classes: AtLeast2 | None = None
    classes_from_folder: bool = False
    files: list[str] = field(default_factory=list)
    label_files: list[str] = field(default_factory=list)
    check: str | None = None
    columns: str | None = None
    class_names: str | None = None
    content: str | None = None
    entry: str | None = None
    shape: list[AtLeast1] | None = None
    rows: list[AtLeast1] | None = None

    def lies_in_unit_interval(self, scaling: object) -> bool:
        """Whether inputs with that setting lie in [0, 1]: images and min-max scaled rows do, z-scored ones do not."""
        return self.inputs == "images" or scaling == "minmax"


@dataclass(frozen=True)
class NetworkAbout:
    """Facts about a network.

    Attributes:
        inputs: what it takes: ``images``, or ``rows`` of a table. None: either, or it is not known.
        halvings: name of the setting whose length is the number of times that the network halves an image.
        work: dotted path of a function of the settings and the shape of a sample that returns the network's
            :class:`~deepsad_pl.networks.network_work.Work`. None: there is no estimate of the time beforehand.
        step_cost: cost of a step of Deep SAD on an empty batch, in multiples of
            :func:`~deepsad_pl.study.machine_speed.probe_seconds`.
        operation_cost: what a million multiply-adds of ``work`` add to it.
        value_cost: what a million values of ``work`` add to it.
    """

    inputs: Literal["images", "rows"] | None = None
    halvings: str | None = None
    work: str | None = None
    step_cost: NonNegative = 0.0
    operation_cost: NonNegative = 0.0
    value_cost: NonNegative = 0.0


def of_method(method: Settings) -> MethodAbout:
    """The facts that a method declares about itself."""
    facts: MethodAbout = declared("method", method)
    return facts


def of_dataset(dataset: Settings) -> DatasetAbout:
    """The facts that a data set declares about itself."""
    facts: DatasetAbout = declared("dataset", dataset)
    return facts


_KINDS: Mapping[str, type[Any]] = {
    "method": MethodAbout,
    "pretrain": TrainingAbout,
    "dataset": DatasetAbout,
    "network": NetworkAbout,
}


def declared(group: str, node: Settings) -> Any:
    """The facts that a choice of a group declares about itself.

    Raises:
        DeepSADError: if a fact is not known.
    """
    try:
        return _KINDS[group](**(node.get("about") or {}))
    except TypeError:
        raise DeepSADError(*about_problems(group, node)) from None


def facts_of(group: str) -> frozenset[str]:
    """The names of the facts that the choices of a group may declare."""
    return frozenset(one.name for one in fields(_KINDS[group]))


def about_problems(group: str, node: Settings) -> Iterator[str]:
    """Yield a sentence for each problem in the ``about`` of a choice.

    Args:
        group: ``method``, ``pretrain``, ``dataset`` or ``network``.
        node: settings of the choice.
    """
    about, key = node.get("about") or {}, f"{group}.about"
    if not isinstance(about, Mapping):
        yield f"{key} is {about!r}; it must be a mapping, such as {{heading: My method}}"
        return
    kinds = get_type_hints(_KINDS[group], include_extras=True)
    for name, value in about.items():
        if name in kinds:
            yield from problems(f"{key}.{name}", value, kinds[name])
        else:
            yield f"{key}.{name} is not known; choose from {', '.join(sorted(kinds))}"


@cache
def own(group: str) -> Mapping[str, Settings]:
    """The package's own choices of a group, by name, each with the settings that it inherits from another choice."""
    files = {path.stem: _read(path) for path in (CONF / group).glob("*.yaml")}

    def whole(name: str) -> dict[str, Any]:
        content = files[name]
        node = {key: value for key, value in content.get(group, content).items() if key != "defaults"}
        for base in filter(files.__contains__, map(str, content.get("defaults", ()))):
            inherited = whole(base)
            facts = {**inherited.get("about", {}), **node.get("about", {})}
            node = {**inherited, **node, **({"about": facts} if facts else {})}
        return node

    return {name: whole(name) for name in sorted(files)}


# Rank of a column that declares none.
_LAST = 1000


@dataclass(frozen=True)
class Column:
    """A column of the tables: its heading, place, style and methods.

    Attributes:
        heading: heading of the column.
        rank: its position among the columns.
        style: how its curve is drawn: color, line, marker and whether it is in front.
        methods: the methods of which it shows the best.
    """

    heading: str
    rank: int
    style: Mapping[str, Any]
    methods: tuple[str, ...]


@cache
def own_columns() -> Mapping[str, Column]:
    """The columns of the package's own methods, in the order of the paper's tables; those without a rank come last."""
    found: dict[str, Column] = {}
    for name, method in own("method").items():
        facts = of_method(method)
        column = facts.column or name
        before = found[column].methods if column in found else ()
        rank = _LAST if facts.rank is None else facts.rank
        found[column] = Column(facts.heading or column, rank, facts.style, (*before, name))
    return dict(sorted(found.items(), key=lambda item: item[1].rank))


def column_of(name: str, facts: MethodAbout) -> str:
    """The column of a method; the heading names the column if the method is not from the package.

    Args:
        name: name of the method.
        facts: facts about the method.
    """
    columns, column = own_columns(), facts.column or name
    # A method derived from one of ours inherits its heading unless it sets its own.
    is_inherited = facts.heading in [known.heading for known in columns.values()]
    return column if column in columns or facts.heading is None or is_inherited else facts.heading


@cache
def paper_grid() -> Mapping[str, Any]:
    """The data sets, methods and variants of the paper's studies of images."""
    return _read(CONF / "paper.yaml")


def _read(path: Path) -> dict[str, Any]:
    # The C loader is six times faster, and every command reads these files.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader) or {}
