"""The choices of an experiment after the check of its settings: data set, network, pre-training and method.

The fields declare the settings that the package itself reads; the configuration is checked against their types. A
component's own settings are declared by its signature and kept in ``arguments``. :func:`~deepsad_pl.settings.typed.
choice_of` makes a choice from plain settings. Does not import torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, cast

from deepsad_pl.common.ranges import AtLeast2, Length, Positive
from deepsad_pl.settings.about import DatasetAbout, MethodAbout, NetworkAbout, TrainingAbout

# A setting that may be null in the configuration; any other setting is None only if the configuration lacks it.
_NULLABLE = {"nullable": True}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A checked choice.

    Attributes:
        target: dotted path of its class or function.
        arguments: the arguments that the configuration gives to its class or function.
        given: the names of all its settings except ``about``, in the order of the configuration.
        name: its name, for folders and reports.
    """

    group: ClassVar[str]

    target: str
    arguments: Mapping[str, object]
    given: tuple[str, ...]
    name: str = ""

    def settings(self) -> dict[str, Any]:
        """The plain settings, for identities and records, without ``about``."""
        read = {"_target_": self.target, **vars(self), **self.arguments}
        found = {key: read[key] for key in self.given}
        return {key: value.settings() if isinstance(value, Choice) else value for key, value in found.items()}

    def with_arguments(self, **arguments: object) -> Self:
        """A copy with other values of some arguments."""
        return replace(self, arguments={**self.arguments, **arguments})


@dataclass(frozen=True, kw_only=True)
class TrainingChoice(Choice):
    """A training: a pre-training or a method's own."""

    batch_size: AtLeast2 | None = None  # belongs to its data
    about: TrainingAbout

    @property
    def epochs(self) -> Sequence[int]:
        """The lengths of its phases; empty for a method that is fitted as a whole."""
        return cast("Sequence[int]", self.arguments.get("epochs", ()))


@dataclass(frozen=True, kw_only=True)
class PretrainChoice(TrainingChoice):
    """A pre-training; ``none`` has only the setting ``cache``."""

    group = "pretrain"

    data: Literal["all", "unlabeled"] = "all"  # unlabeled: without labeled anomalies
    cache: bool = True  # store the trained network under <output_dir>/cache, and reuse it from there


@dataclass(frozen=True, kw_only=True)
class MethodChoice(TrainingChoice):
    """A method."""

    group = "method"

    about: MethodAbout
    features: Literal["raw", "bottleneck"] | None = None  # input of a shallow method; bottleneck: of a trained network
    sees_labeled_anomalies: bool = False  # for a method that does not see them by default

    @property
    def hides_labeled_anomalies(self) -> bool:
        """Whether it is unsupervised and not set to see labeled anomalies."""
        return self.about.hides_labeled_anomalies(self.sees_labeled_anomalies)


@dataclass(frozen=True, kw_only=True)
class NetworkChoice(Choice):
    """A network."""

    group = "network"

    # The decoder for phi in an autoencoder; null: none.
    decoder: Mapping[str, object] | None = field(default=None, metadata=_NULLABLE)
    about: NetworkAbout


@dataclass(frozen=True, kw_only=True)
class DatasetChoice(Choice):
    """A data set."""

    group = "dataset"

    kind: str = ""  # the data set itself, whatever its name
    classes: list[str] | None = field(default=None, metadata=_NULLABLE)  # names in the order of their indices
    network: NetworkChoice  # the chosen or the recommended one
    scaling: Literal["zscore", "minmax"] | None = None  # of rows
    lr: Sequence[Positive] = ()  # recommended schedule
    epochs: Sequence[Length] = ()
    batch_size: AtLeast2 | None = None
    lr_from_test: bool = False  # whether lr was chosen by AUROC on test data, which reports mention
    about: DatasetAbout


# Each group whose options name a component.
CHOICES: Mapping[str, type[Choice]] = {
    kind.group: kind for kind in (DatasetChoice, NetworkChoice, PretrainChoice, MethodChoice)
}
