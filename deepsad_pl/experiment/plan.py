"""Make a plan from a configuration: check it, resolve the classes, determine the run's identity and folder.

Works on plain dictionaries and without torch, so that a sweep can check all its jobs before the first one starts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from deepsad_pl.common.components import load
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.common.thresholds import Threshold
from deepsad_pl.data import image_folder
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.exposure import EXPOSURES, Exposure
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.queried_labels import QueriedLabels, is_queried, queried_labels
from deepsad_pl.data.scenario import (
    ALL,
    GIVEN_CLASSES,
    Scenario,
    given_labels,
    is_given,
    number_problems,
    resolve_scenario,
)
from deepsad_pl.detector.query import STRATEGIES
from deepsad_pl.experiment.identity import data_identity, training_identity
from deepsad_pl.experiment.warm_start import KEY, Earlier, method_problems, read_earlier, with_earlier
from deepsad_pl.settings import about
from deepsad_pl.settings.about import Settings
from deepsad_pl.settings.checks import class_name_problems, incomplete, setting_problems
from deepsad_pl.settings.choices import DatasetChoice, MethodChoice, NetworkChoice, PretrainChoice, TrainingChoice
from deepsad_pl.settings.own_metrics import OwnMetric, own_metrics
from deepsad_pl.settings.typed import choice_of, component_problems, typed
from deepsad_pl.training.trainer_arguments import identity_of

# Increase this when the meaning of a configuration changes, so that old runs are not mistaken for new ones.
IDENTITY_FORMAT = 2

# The class names in a run folder's name are cut at so many letters; and if its part before the hash has too many bytes
# for a file system, which allows 255 in all, at so many bytes.
_NAME_LENGTH, _NAME_BYTES, _MOST_BYTES = 40, 48, 240

T = TypeVar("T", bound=TrainingChoice)


@dataclass(frozen=True)
class Plan:
    """A checked experiment.

    Attributes:
        dataset: the data set.
        classes: class names of the data set.
        method: the method; its epochs are capped by ``trainer.max_epochs``.
        pretrain: likewise for the pre-training; None without one. It is not trained if the run starts from an earlier
            one's weights.
        scenario: classes and shares of normal, labeled and polluting samples.
        trainer: settings of the trainer.
        logger: settings of the loggers.
        seed: seed for all randomness of the run.
        force: whether to repeat a finished run.
        report: whether to write the page of the run; None: if it is a single run.
        data_dir: folder of the data.
        cache_dir: folder of cached autoencoders; None: use no cache.
        identity: everything that determines the result.
        run_dir: the run folder.
        metrics: user-defined metrics, by name.
        threshold: how the threshold of the scores is set.
        earlier: the run whose weights the training starts from; None: there is none, or it is not needed any more.
        previous_round: with ``scenario=queried``, the experiment of the previous round, whose scores decide which
            samples this one asks about; None in round 0 and in every other scenario.
    """

    dataset: DatasetChoice
    classes: tuple[str, ...]
    method: MethodChoice
    pretrain: PretrainChoice | None
    scenario: Scenario
    trainer: dict[str, Any]
    logger: dict[str, Any]
    seed: int
    force: bool
    report: bool | None
    data_dir: Path
    cache_dir: Path | None
    identity: dict[str, Any]
    run_dir: Path
    metrics: dict[str, OwnMetric]
    threshold: Threshold
    earlier: Earlier | None = None
    previous_round: "Plan | None" = None

    @property
    def starts_warm(self) -> bool:
        """Whether the training starts from the weights of an earlier run."""
        return KEY in self.identity

    @property
    def about(self) -> about.MethodAbout:
        """The facts that the method declares about itself."""
        return self.method.about

    @property
    def wandb_group(self) -> str:
        """The W&B group of the experiment if the settings name none."""
        return f"{self.dataset.name}/{self.method.name}"

    @property
    def ranks(self) -> int:
        """The number of processes that compute together."""
        return int(self.trainer["devices"] * self.trainer["num_nodes"])


def make_plan(
    settings: Settings, *, multirun: bool = False, tasks: int | None = None, problems: Sequence[str] = ()
) -> Plan:
    """Check the settings and plan the run.

    Args:
        settings: the resolved configuration as plain dictionaries (see ``deepsad_pl/settings/schema.py``).
        multirun: whether this is one job of a sweep.
        tasks: number of processes that a launcher will start for the job on another machine; None if it runs here.
        problems: problems that are already known, to be reported in the same error.

    Raises:
        DeepSADError: with every problem found.
    """
    settings = with_units(with_network(typed(settings)))
    if missing := incomplete(settings):
        raise DeepSADError(*problems, *missing)
    trainer = settings["trainer"]
    problems = [*problems, *setting_problems(settings, multirun=multirun, tasks=tasks)]
    classes: tuple[str, ...] = ()
    scenario = earlier = None
    if settings.get(KEY) is not None:
        try:
            earlier = read_earlier(settings[KEY])
            problems += method_problems(settings["method"], earlier)
        except DeepSADError as error:
            problems += error.problems
    given = "given" in settings["scenario"]
    try:
        classes = GIVEN_CLASSES if given else class_names(settings["dataset"])
    except DeepSADError as error:
        numbers = {key: settings["scenario"].get(key, 0) for key in ("gamma_l", "gamma_p", "k_l", "gamma_n")}
        later = ("labels", "unlabeled", "gamma_e", "gamma_en")
        numbers |= {key: settings["scenario"][key] for key in later if key in settings["scenario"]}
        problems += [*error.problems, *number_problems(**numbers, seed=settings["seed"])]
    else:
        try:
            scenario = given_labels(settings["seed"]) if given else _resolved(settings, classes)
        except DeepSADError as error:
            problems += error.problems
    if problems or scenario is None:
        raise DeepSADError(*dict.fromkeys(problems))

    dataset = choice_of(DatasetChoice, settings["dataset"])
    method = _completed(choice_of(MethodChoice, settings["method"]), trainer["max_epochs"], dataset.network)
    pretrain = None
    if settings["pretrain"].get("_target_") is not None:
        pretrain = _completed(choice_of(PretrainChoice, settings["pretrain"]), trainer["max_epochs"], dataset.network)
    threshold = Threshold.of_settings(settings["threshold"])
    # A method that does not see the labeled anomalies is still calibrated on them by threshold=labeled.
    if method.hides_labeled_anomalies and threshold.kind != "labeled":
        scenario = scenario.unsupervised() or scenario
    if method.hides_labeled_anomalies:
        scenario = replace(scenario, exposure=None)
    data_dir = data_dir_of(settings)
    output_dir = Path(settings["output_dir"]).expanduser()
    identity: dict[str, Any] = {
        "format": IDENTITY_FORMAT,
        "dataset": data_identity(dataset, data_dir, given=given),
        "scenario": scenario.as_dict(),
        "method": training_identity(method, scenario, data_dir),
        "pretrain": pretrain and training_identity(pretrain, scenario, data_dir),
        "precision": trainer["precision"],
        **identity_of(trainer),
        **({"threshold": threshold.identity} if threshold else {}),
    }
    if method.features == "raw":
        # A shallow method without pre-training uses no network.
        del identity["dataset"]["network"], identity["precision"]
        identity.pop("trainer", None)
    if earlier is not None:
        identity = with_earlier(identity, earlier.hash)
    found = Plan(
        dataset=dataset,
        classes=classes,
        method=method,
        pretrain=pretrain,
        scenario=scenario,
        trainer=dict(trainer),
        logger=dict(settings["logger"]),
        seed=settings["seed"],
        force=settings["force"],
        report=settings.get("report"),
        data_dir=data_dir,
        cache_dir=output_dir / "cache" if settings["pretrain"].get("cache", True) else None,
        identity=identity,
        run_dir=output_dir / dataset.name / method.name,
        metrics=own_metrics(settings["metrics"]),
        threshold=threshold,
        earlier=earlier,
    )
    return _in_scenario(found, scenario, found.run_dir)


def _in_scenario(plan: Plan, scenario: Scenario, folder: Path) -> Plan:
    """The plan with this scenario, after the plans of its earlier rounds.

    Args:
        plan: a plan whose scenario differs from this one at most in the rounds.
        scenario: the scenario.
        folder: folder of the run folders.
    """
    identity = {**plan.identity, "scenario": scenario.as_dict()}
    before = None
    if isinstance(scenario, QueriedLabels) and scenario.rounds:
        before = replace(_in_scenario(plan, replace(scenario, rounds=scenario.rounds - 1), folder), force=False)
    run_dir = folder / f"{_folder_slug(scenario, plan.classes)}-{identity_hash(identity)}"
    return replace(plan, scenario=scenario, identity=identity, run_dir=run_dir, previous_round=before)


def _resolved(settings: Settings, classes: Sequence[str]) -> Scenario:
    known = {"seed": settings["seed"], "classes": classes, "in_training": training_classes(settings["dataset"])}
    if is_queried(settings["scenario"]):
        return queried_labels(**settings["scenario"], **known, strategies=STRATEGIES)
    drawn = dict(settings["scenario"])
    exposure = drawn.pop("exposure", None)
    scenario = resolve_scenario(**drawn, **known)
    if exposure is None or exposure not in EXPOSURES:  # the latter is reported with the other settings
        return scenario
    return replace(scenario, exposure=Exposure(exposure, data_digest(exposure, data_dir_of(settings))))


def data_dir_of(settings: Settings) -> Path:
    """The folder of the data."""
    return Path(settings["data_dir"] or "data").expanduser()  # the variable may be set but empty


def root_of(dataset: Mapping[str, object]) -> Path:
    """The root folder of a data set whose classes are its sub-folders, from its settings."""
    return Path(str(dataset["root"])).expanduser()


def with_network(settings: Settings) -> dict[str, Any]:
    """Replace the network that the data set recommends by the chosen one."""
    if not settings["network"]:
        return dict(settings)
    return {**settings, "dataset": {**settings["dataset"], "network": settings["network"]}}


def with_units(settings: Settings) -> dict[str, Any]:
    """Replace null widths of the network by widths that follow from the number of columns, where that is known."""
    dataset = settings["dataset"]
    network = dataset.get("network") or {}
    if not isinstance(network, Mapping) or "units" not in network or network["units"] is not None:
        return dict(settings)
    try:
        columns = about.of_dataset(dataset).columns
        if columns is None:
            units = None
        elif any(component_problems("dataset", dataset)):
            units = units_for(1)
        else:
            units = units_for(load(columns, "dataset.about.columns")(dataset))
    except (DeepSADError, OSError):  # reported when the settings are checked
        units = units_for(1)
    return {**settings, "dataset": {**dataset, "network": {**network, "units": units}}}


def units_for(columns: int) -> list[int]:
    """The widths of an MLP for a table: those of the paper's tables with about as many columns (appendix B)."""
    return [128, 64, 32] if columns >= 100 else [32, 16, 8] if columns >= 10 else [32, 16, 4]


def class_names(dataset: Settings) -> tuple[str, ...]:
    """The names of a data set's classes; those of an image folder are read from it.

    Raises:
        DeepSADError: if that folder cannot be read or has no classes, or the class names in the settings are invalid.
    """
    if about.of_dataset(dataset).classes_from_folder:
        return tuple(image_folder.class_names(root_of(dataset)))
    if (found := about.of_dataset(dataset).class_names) is not None:
        if of_types := list(component_problems("dataset", dataset)):
            raise DeepSADError(*of_types)
        return tuple(load(found, "dataset.about.class_names")(dataset))
    if problems := list(class_name_problems(dataset)):
        raise DeepSADError(*problems)
    return tuple(map(composed, dataset["classes"]))


def training_classes(dataset: Settings) -> tuple[str, ...]:
    """The names of the classes in the training data; for an image folder, those with an image in ``train``.

    Raises:
        DeepSADError: if that folder cannot be read.
    """
    if about.of_dataset(dataset).classes_from_folder:
        return tuple(image_folder.training_classes(root_of(dataset)))
    return class_names(dataset)


def _completed(phase: T, max_epochs: int | None, network: NetworkChoice) -> T:
    """Cap the epochs of a training, and replace null sizes of a generative model by the sizes of phi."""
    if max_epochs is not None and phase.epochs:
        starts = [sum(phase.epochs[:i]) for i in range(len(phase.epochs))]
        capped = [min(length, max(max_epochs - start, 0)) for start, length in zip(starts, phase.epochs, strict=True)]
        phase = phase.with_arguments(epochs=capped)
    if not phase.about.sized_by_network:
        return phase
    units, dense = (cast("list[int]", network.arguments.get(key) or []) for key in ("units", "dense"))
    latent, hidden = phase.arguments["latent"], phase.arguments["hidden"]
    width = cast("int", (units or dense)[-1] if latent is None else latent)
    by_network = units[:-1] or [4 * width, 2 * width]
    return phase.with_arguments(latent=width, hidden=by_network if hidden is None else hidden)


def _folder_slug(scenario: Scenario, classes: Sequence[str]) -> str:
    """The scenario in words that a file system takes as a folder's name; it counts bytes, of which a letter has 1-4."""
    slug = _slug(scenario, classes)
    return slug if len(slug.encode()) <= _MOST_BYTES else _slug(scenario, classes, name_bytes=_NAME_BYTES)


def _slug(scenario: Scenario, classes: Sequence[str], name_bytes: int = 4 * _NAME_LENGTH) -> str:
    if is_given(scenario):
        return f"given-seed_{scenario.seed}"

    def named(indices: Sequence[int]) -> str:
        name = re.sub(r"[^\w.+]+", "", "+".join(classes[i] for i in indices))[:_NAME_LENGTH]
        # Part of a letter at the end is dropped.
        return name.encode()[:name_bytes].decode(errors="ignore")

    parts = [f"normal_{named(scenario.normal_classes)}"]
    if scenario.known_classes and not is_queried(scenario):
        amount = f"gamma_l_{scenario.gamma_l:g}" if scenario.label_count is None else f"labels_{scenario.label_count}"
        parts += [f"known_{named(scenario.known_classes)}", amount]
    if scenario.unlabeled == ALL:
        parts.append("unlabeled_all")
    if scenario.gamma_p:
        parts.append(f"gamma_p_{scenario.gamma_p:g}")
    if isinstance(scenario, QueriedLabels):
        parts.append(f"labels_{scenario.labels}")
        parts += [f"{scenario.by}_{scenario.rounds}x{scenario.count}"] if scenario.rounds else []
    if scenario.gamma_n:
        parts.append(f"gamma_n_{scenario.gamma_n:g}")
    if scenario.gamma_e:
        parts.append(f"gamma_e_{scenario.gamma_e:g}")
    if scenario.gamma_en:
        parts.append(f"gamma_en_{scenario.gamma_en:g}")
    if scenario.exposure is not None:
        parts.append(f"exposure_{scenario.exposure.kind}")
    return "-".join([*parts, f"seed_{scenario.seed}"])
