"""``about``: what a choice says about itself, for checks, plans and reports. No torch here.

Facts, never a part of a run's identity. ``docs/components.md`` shows them in use.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from deepsad_pl.common.ranges import AtLeast2, problems

Settings = Mapping[str, Any]

_PACKAGE = Path(__file__).resolve().parent.parent
# In a checkout conf/ stands beside the package, in an installed one inside it.
_CHECKOUT_CONF = _PACKAGE.parent / "conf"
CONF = _CHECKOUT_CONF if (_CHECKOUT_CONF / "train.yaml").exists() else _PACKAGE / "conf"


@dataclass(frozen=True)
class TrainingAbout:
    """Of a pre-training, and of a method.

    Attributes:
        sized_by_network: whether its ``hidden`` and ``latent`` follow the network where they are null.
        needs_unit_interval: values of settings that need inputs in [0, 1].
    """

    sized_by_network: bool = False
    needs_unit_interval: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodAbout(TrainingAbout):
    """Of a method.

    Attributes:
        shallow: whether it is fitted on arrays by a function, not trained by the Trainer.
        pretrain: the choices of ``pretrain`` that it may start from.
        labels: what becomes of labeled anomalies: they are ``seen``, ``hidden`` from it (unless
            ``sees_labeled_anomalies`` is set), or ``needed``.
        is_pretraining: whether its training is the pre-training of that name, so that experiments share it.
        unused_without_labels: settings that play no role where nothing is labeled.
        unused: settings that play no role, by a setting and its value.
        same_without_anomalies: by a setting and its value, the value that is the same where no anomaly is labeled.
        needs_labeled_normals: values of settings that need labeled normal samples.
        without_labels: the method that it is where nothing is labeled.
        check: dotted path of a function of ``semi_y`` and the settings that refuses training rows which cannot work.
        stack: family of methods with one hand-written objective, which are trained in one stack.
        column: of a study's tables; several variants may share one. None: the method's name.
        heading: of that column. None: the column.
        title: of a panel with the method alone. None: the heading.
        rank: place of the column in a table; those without one come last.
        style: how its curve is drawn: color, line, marker and whether it is in front.
        threshold: the score above which the method itself says "anomaly", if it has one.
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
    stack: str | None = None
    column: str | None = None
    heading: str | None = None
    title: str | None = None
    rank: int | None = None
    style: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None


@dataclass(frozen=True)
class DatasetAbout:
    """Of a data set.

    Attributes:
        inputs: ``images`` of 8-bit pixels, or ``rows`` of a table.
        own_test_set: whether it comes divided into training and test set; else the seed divides it.
        classes: how many there are, if that is known beforehand.
        classes_from_folder: whether the classes are the sub-folders of ``dataset.root``.
    """

    inputs: Literal["images", "rows"] = "rows"
    own_test_set: bool = False
    classes: AtLeast2 | None = None
    classes_from_folder: bool = False


@dataclass(frozen=True)
class NetworkAbout:
    """Of a network.

    Attributes:
        halvings: the setting that has an entry for each time that the network halves an image.
    """

    halvings: str | None = None


def of_network(network: Settings) -> NetworkAbout:
    """What a network says about itself."""
    return NetworkAbout(**(network.get("about") or {}))


def of_method(method: Settings) -> MethodAbout:
    """What a method says about itself."""
    return MethodAbout(**(method.get("about") or {}))


def of_training(phase: Settings) -> TrainingAbout:
    """What a training says about itself, be it a pre-training or a method's own."""
    facts = phase.get("about") or {}
    return TrainingAbout(**{one.name: facts[one.name] for one in fields(TrainingAbout) if one.name in facts})


def of_dataset(dataset: Settings) -> DatasetAbout:
    """What a data set says about itself."""
    return DatasetAbout(**(dataset.get("about") or {}))


_KINDS = {"method": MethodAbout, "pretrain": TrainingAbout, "dataset": DatasetAbout, "network": NetworkAbout}


def facts_of(group: str) -> frozenset[str]:
    """The names of what the choices of a group may say about themselves."""
    return frozenset(one.name for one in fields(_KINDS[group]))


def about_problems(group: str, node: Settings) -> Iterator[str]:
    """What is wrong with the ``about`` of a choice.

    Args:
        group: ``method``, ``pretrain``, ``dataset`` or ``network``.
        node: its settings.
    """
    about, key = node.get("about") or {}, f"{group}.about"
    if not isinstance(about, Mapping):
        yield f"{key} is {about!r}; give a mapping of facts"
        return
    kinds = get_type_hints(_KINDS[group], include_extras=True)
    for name, value in about.items():
        if name in kinds:
            yield from problems(f"{key}.{name}", value, kinds[name])
        else:
            yield f"{key}.{name} is not known; give some of {', '.join(sorted(kinds))}"


@cache
def own(group: str) -> Mapping[str, Settings]:
    """The choices of a group that come with the package, by their names, each with what it takes over from another."""
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


@dataclass(frozen=True)
class Column:
    """What a column of the tables is called, and what it shows.

    Attributes:
        heading: above it.
        rank: its place among the columns.
        style: how its curve is drawn: color, line, marker and whether it is in front.
        methods: the methods that it shows the best of.
    """

    heading: str
    rank: int
    style: Mapping[str, Any]
    methods: tuple[str, ...]


@cache
def own_columns() -> Mapping[str, Column]:
    """The columns of the package's own methods, in the order of the paper's tables."""
    found: dict[str, Column] = {}
    for name, method in own("method").items():
        facts = of_method(method)
        column = facts.column or name
        before = found[column].methods if column in found else ()
        assert facts.heading is not None and facts.rank is not None
        found[column] = Column(facts.heading, facts.rank, facts.style, (*before, name))
    return dict(sorted(found.items(), key=lambda item: item[1].rank))


def column_of(name: str, facts: MethodAbout) -> str:
    """The column of a method; one from outside is called by its heading.

    Args:
        name: of the method.
        facts: what it says about itself.
    """
    columns, column = own_columns(), facts.column or name
    # A method made from one of ours has the heading of that unless it says otherwise.
    is_inherited = facts.heading in [known.heading for known in columns.values()]
    return column if column in columns or facts.heading is None or is_inherited else facts.heading


@cache
def paper_grid() -> Mapping[str, Any]:
    """The data sets, methods and variants of the paper's studies of images."""
    return _read(CONF / "paper.yaml")


def _read(path: Path) -> dict[str, Any]:
    # The loader in C is six times faster, and every command reads these files.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader) or {}
