"""From a configuration to a plan: checked, classes resolved, the run's identity and folder.

Works on plain dictionaries and without torch, so that a sweep can check all its jobs before the first one starts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.checks import Settings, class_name_problems, setting_problems
from deepsad_pl.data import image_folder
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.scenario import Scenario, number_problems, resolve_scenario
from deepsad_pl.errors import DeepSADError
from deepsad_pl.own_metrics import OwnMetric, own_metrics
from deepsad_pl.results import identity_hash
from deepsad_pl.trainer_arguments import identity_of

# Raised when what a configuration means changes, so that old runs are not mistaken for new ones.
IDENTITY_FORMAT = 2

_SEES = "sees_labeled_anomalies"

# Hyper-parameters of shallow methods that play no role under a protocol of selection.
_UNUSED_BY_SELECTION = {"test_subset": ("nu",), "holdout": ("nus",), "none": ("gammas", "nus")}


@dataclass(frozen=True)
class Plan:
    """A checked experiment.

    Attributes:
        dataset: settings of the data set.
        classes: its class names.
        method: settings of the method; its epochs are capped by ``trainer.max_epochs``.
        pretrain: likewise, or None for no pre-training.
        scenario: what the method sees.
        trainer: settings of the trainer.
        logger: settings of the logger.
        seed: of everything.
        force: whether a finished run is done again.
        data_dir: where the data lie.
        cache_dir: where pre-trained autoencoders are kept; None keeps and takes none.
        identity: what determines the result.
        run_dir: the run folder.
        metrics: of the user's own, by name.
    """

    dataset: dict[str, Any]
    classes: tuple[str, ...]
    method: dict[str, Any]
    pretrain: dict[str, Any] | None
    scenario: Scenario
    trainer: dict[str, Any]
    logger: dict[str, Any]
    seed: int
    force: bool
    data_dir: Path
    cache_dir: Path | None
    identity: dict[str, Any]
    run_dir: Path
    metrics: dict[str, OwnMetric]

    @property
    def ranks(self) -> int:
        """How many processes compute together."""
        return int(self.trainer["devices"] * self.trainer["num_nodes"])


def make_plan(
    settings: Settings, *, multirun: bool = False, tasks: int | None = None, problems: Sequence[str] = ()
) -> Plan:
    """Check the settings and plan the run.

    Args:
        settings: the resolved configuration as plain dictionaries (see ``deepsad_pl/schema.py``).
        multirun: whether this is one job of a sweep.
        tasks: how many processes a launcher will start for the job, on another machine; None if it runs on this one.
        problems: what is known to be wrong already, for one message about everything.

    Raises:
        DeepSADError: with every problem found.
    """
    dataset, method, trainer = settings["dataset"], settings["method"], settings["trainer"]
    pretrain = settings["pretrain"] if settings["pretrain"]["name"] != "none" else None
    problems = [*problems, *setting_problems(settings, multirun=multirun, tasks=tasks)]
    classes: tuple[str, ...] = ()
    scenario = None
    numbers = {key: settings["scenario"][key] for key in ("gamma_l", "gamma_p", "k_l", "gamma_n")}
    try:
        classes = class_names(dataset)
    except DeepSADError as error:
        problems += [*error.problems, *number_problems(**numbers, seed=settings["seed"])]
    else:
        try:
            scenario = resolve_scenario(
                **settings["scenario"], seed=settings["seed"], classes=classes, in_training=training_classes(dataset)
            )
        except DeepSADError as error:
            problems += error.problems
    if problems or scenario is None:
        raise DeepSADError(*problems)

    if hides_labeled_anomalies(method):
        scenario = scenario.unsupervised() or scenario
    method, pretrain = (
        phase and _sized(_capped(phase, trainer["max_epochs"]), dataset["network"]) for phase in (method, pretrain)
    )
    assert method is not None
    data_dir = Path(settings["data_dir"] or "data").expanduser()  # the variable may be set but empty
    output_dir = Path(settings["output_dir"]).expanduser()
    identity: dict[str, Any] = {
        "format": IDENTITY_FORMAT,
        "dataset": _what_determines_the_data(dataset, data_dir),
        "scenario": scenario.as_dict(),
        "method": _what_determines_the_result(method, scenario),
        "pretrain": pretrain and _what_determines_the_result(pretrain, scenario),
        "precision": trainer["precision"],
        **identity_of(trainer),
    }
    if method.get("features") == "raw":
        # No network at all.
        del identity["dataset"]["network"], identity["precision"]
        identity.pop("trainer", None)
    name = f"{_slug(scenario, classes)}-{identity_hash(identity)}"
    return Plan(
        dataset=dict(dataset),
        classes=classes,
        method=method,
        pretrain=pretrain,
        scenario=scenario,
        trainer=dict(trainer),
        logger=dict(settings["logger"]),
        seed=settings["seed"],
        force=settings["force"],
        data_dir=data_dir,
        cache_dir=output_dir / "cache" if settings["pretrain"]["cache"] else None,
        identity=identity,
        run_dir=output_dir / dataset["name"] / method["name"] / name,
        metrics=own_metrics(settings["metrics"]),
    )


def hides_labeled_anomalies(method: Settings) -> bool:
    """Whether a method is unsupervised and has not been told to look at labeled anomalies."""
    return not method.get(_SEES, True)


def image_size(dataset: Settings) -> tuple[int, int]:
    """(H, W) of an image folder; one number stands for both."""
    size = dataset["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return height, width


def root_of(dataset: Settings) -> Path:
    """The folder of an image folder."""
    return Path(dataset["root"]).expanduser()


def class_names(dataset: Settings) -> tuple[str, ...]:
    """The names of a data set's classes; those of an image folder are read from it.

    Raises:
        DeepSADError: if that folder cannot be read or has none, or the names that the settings give are wrong.
    """
    if "root" in dataset:
        return tuple(image_folder.class_names(root_of(dataset)))
    if problems := list(class_name_problems(dataset)):
        raise DeepSADError(*problems)
    return tuple(map(composed, dataset["classes"]))


def training_classes(dataset: Settings) -> tuple[str, ...]:
    """The names of the classes that the training data have; of an image folder those with an image in ``train``.

    Raises:
        DeepSADError: if that folder cannot be read.
    """
    if "root" in dataset:
        return tuple(image_folder.training_classes(root_of(dataset)))
    return class_names(dataset)


def _what_determines_the_data(dataset: Settings, data_dir: Path) -> dict[str, Any]:
    chosen = {key: dataset[key] for key in ("kind", "scaling", "channels", "network") if key in dataset}
    if "root" in dataset:
        chosen |= {
            "image_size": image_size(dataset),
            "files": image_folder.content_digest(root_of(dataset), data_dir / "cache"),
        }
    elif (digest := data_digest(dataset["kind"], data_dir)) is not None:
        chosen["data_digest"] = digest
    return chosen


def _what_determines_the_result(phase: Settings, scenario: Scenario) -> dict[str, Any]:
    """The settings of a training without what plays no role, so that equal experiments have one run folder."""
    # Where a trained autoencoder is kept is none of the result, nor who sees labels where there are none.
    unused = ("cache",) if scenario.known_classes and hides_labeled_anomalies(phase) else ("cache", _SEES)
    chosen = {key: value for key, value in phase.items() if key not in unused}
    for key in _UNUSED_BY_SELECTION.get(phase.get("selection", ""), ()):
        chosen.pop(key, None)
    if "lr" in phase:
        chosen["schedule"] = _merged(chosen.pop("lr"), chosen.pop("epochs"))
    if not scenario.known_classes:
        if chosen.get("center_from") == "all":
            chosen["center_from"] = "unlabeled_and_normal"
        chosen.pop("data", None)
        if not scenario.gamma_n:
            for key in ("eta", "kappa", "eta_l"):
                chosen.pop(key, None)
    return chosen


def _merged(lr: Sequence[float], epochs: Sequence[int]) -> list[list[float]]:
    """The schedule without empty phases, neighbours of one learning rate as one."""
    schedule: list[list[float]] = []
    for rate, length in zip(lr, epochs, strict=True):
        if schedule and schedule[-1][0] == rate:
            schedule[-1][1] += length
        elif length:
            schedule.append([rate, length])
    return schedule


def _capped(phase: Settings, max_epochs: int | None) -> dict[str, Any]:
    if "epochs" not in phase:
        return dict(phase)
    epochs: list[int] = []
    for length in phase["epochs"]:
        left = length if max_epochs is None else max(max_epochs - sum(epochs), 0)
        epochs.append(min(length, left))
    return {**phase, "epochs": epochs}


def _sized(phase: dict[str, Any], network: Settings) -> dict[str, Any]:
    """The sizes of a generative model that are not given, after those of phi."""
    if "latent" not in phase:
        return phase
    units = network.get("units") or network["dense"]
    width = units[-1] if phase["latent"] is None else phase["latent"]
    by_network = units[:-1] if network.get("units", [])[:-1] else [4 * width, 2 * width]
    return {**phase, "latent": width, "hidden": by_network if phase["hidden"] is None else phase["hidden"]}


def _slug(scenario: Scenario, classes: Sequence[str]) -> str:
    def named(indices: Sequence[int]) -> str:
        return re.sub(r"[^\w.+]+", "", "+".join(classes[i] for i in indices))[:40]

    parts = [f"normal_{named(scenario.normal_classes)}"]
    if scenario.known_classes:
        parts += [f"known_{named(scenario.known_classes)}", f"gamma_l_{scenario.gamma_l:g}"]
    if scenario.gamma_p:
        parts.append(f"gamma_p_{scenario.gamma_p:g}")
    if scenario.gamma_n:
        parts.append(f"gamma_n_{scenario.gamma_n:g}")
    return "-".join([*parts, f"seed_{scenario.seed}"])
