"""From a configuration to a plan: every wrong value told at once, classes resolved, the run's identity and folder.

Works on plain dictionaries and without torch, so that a sweep can check all its jobs before the first one starts.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.data import image_folder
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.data.scenario import Scenario, number_problems, resolve_scenario
from deepsad_pl.errors import DeepSADError
from deepsad_pl.results import identity_hash

# Raised when what a configuration means changes, so that old runs are not mistaken for new ones.
IDENTITY_FORMAT = 1

Settings = Mapping[str, Any]


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
        identity: what determines the result.
        run_dir: the run folder.
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
    identity: dict[str, Any]
    run_dir: Path

    @property
    def ranks(self) -> int:
        """How many processes compute together."""
        return int(self.trainer["devices"] * self.trainer["num_nodes"])


def make_plan(settings: Settings, *, multirun: bool = False) -> Plan:
    """Check the settings and plan the run.

    Args:
        settings: the resolved configuration as plain dictionaries (see ``deepsad_pl/config.py``).
        multirun: whether this is one job of a sweep.

    Raises:
        DeepSADError: with every problem found.
    """
    dataset, method, trainer = settings["dataset"], settings["method"], settings["trainer"]
    pretrain = settings["pretrain"] if "data" in settings["pretrain"] else None
    problems = [
        *_dataset_problems(dataset),
        *_method_problems(settings),
        *(_schedule_problems("pretrain", pretrain) if pretrain else ()),
        *_trainer_problems(trainer, multirun),
        *_logger_problems(settings["logger"]),
    ]
    classes: tuple[str, ...] = ()
    scenario = None
    numbers = {key: settings["scenario"][key] for key in ("gamma_l", "gamma_p", "k_l", "gamma_n")}
    try:
        classes = _classes(dataset)
    except DeepSADError as error:
        problems += [*error.problems, *number_problems(**numbers, seed=settings["seed"])]
    else:
        try:
            scenario = resolve_scenario(**settings["scenario"], seed=settings["seed"], classes=classes)
        except DeepSADError as error:
            problems += error.problems
    if problems or scenario is None:
        raise DeepSADError(*problems)

    if not method.get("sees_labeled_anomalies", True):
        scenario = scenario.without_labeled_anomalies()
    method, pretrain = (phase and _capped(phase, trainer["max_epochs"]) for phase in (method, pretrain))
    assert method is not None
    data_dir = Path(settings["data_dir"] or "data").expanduser()  # the variable may be set but empty
    identity = {
        "format": IDENTITY_FORMAT,
        "dataset": _what_determines_the_data(dataset, data_dir),
        "scenario": scenario.as_dict(),
        "method": _what_determines_the_result(method, scenario),
        "pretrain": pretrain and _what_determines_the_result(pretrain, scenario),
        "precision": trainer["precision"],
    }
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
        identity=identity,
        run_dir=Path(settings["output_dir"]).expanduser() / dataset["name"] / method["name"] / name,
    )


def image_size(dataset: Settings) -> tuple[int, int]:
    """(H, W) of an image folder; one number stands for both."""
    size = dataset["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return height, width


def root_of(dataset: Settings) -> Path:
    """The folder of an image folder."""
    return Path(dataset["root"]).expanduser()


def lies_in_unit_interval(dataset: Settings) -> bool:
    """Whether the inputs lie in [0, 1]: images and min-max scaled tables do, z-scored ones do not."""
    return bool(dataset.get("scaling", "minmax") == "minmax")


def _classes(dataset: Settings) -> tuple[str, ...]:
    if "root" in dataset:
        return tuple(image_folder.class_names(root_of(dataset)))
    return tuple(dataset["classes"])


def _what_determines_the_data(dataset: Settings, data_dir: Path) -> dict[str, Any]:
    chosen = {key: dataset[key] for key in ("kind", "scaling", "channels", "network") if key in dataset}
    if "root" in dataset:
        chosen |= {
            "image_size": image_size(dataset),
            "files": image_folder.content_digest(root_of(dataset), data_dir / "cache"),
        }
    return chosen


def _what_determines_the_result(phase: Settings, scenario: Scenario) -> dict[str, Any]:
    """The settings of a training without what plays no role, so that equal experiments have one run folder."""
    chosen = dict(phase)
    # What a method sees is a part of the scenario.
    chosen.pop("sees_labeled_anomalies", None)
    schedule: list[list[float]] = []
    for rate, length in zip(chosen.pop("lr"), chosen.pop("epochs"), strict=True):
        if schedule and schedule[-1][0] == rate:
            schedule[-1][1] += length
        elif length:
            schedule.append([rate, length])
    chosen["schedule"] = schedule
    if not scenario.known_classes:
        if chosen.get("center_from") == "all":
            chosen["center_from"] = "unlabeled_and_normal"
        chosen.pop("data", None)
        if not scenario.gamma_n:
            chosen.pop("eta", None)
    return chosen


def _capped(phase: Settings, max_epochs: int | None) -> dict[str, Any]:
    epochs: list[int] = []
    for length in phase["epochs"]:
        left = length if max_epochs is None else max(max_epochs - sum(epochs), 0)
        epochs.append(min(length, left))
    return {**phase, "epochs": epochs}


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


def _one_of(key: str, value: object, allowed: Sequence[object]) -> Iterator[str]:
    if value not in allowed:
        yield f"{key} is {value!r}; give one of {', '.join(map(str, allowed))}"


def _at_least(key: str, value: float, least: float) -> Iterator[str]:
    if not least <= value < math.inf:
        yield f"{key} is {value}; give a number >= {least}"


def _positive(key: str, value: float) -> Iterator[str]:
    if not 0 < value < math.inf:
        yield f"{key} is {value}; give a number > 0"


def _dataset_problems(dataset: Settings) -> Iterator[str]:
    if not re.fullmatch(r"\w[\w.-]*", dataset["name"]):
        yield f"dataset.name is {dataset['name']!r}, but it names a folder; use letters, digits, '.', '_' and '-'"
    yield from _one_of("dataset.scaling", dataset.get("scaling", "zscore"), ("zscore", "minmax"))
    yield from _one_of("dataset.channels", dataset.get("channels", 1), (1, 3))
    yield from _one_of("dataset.kind", dataset["kind"], _kinds(dataset))
    network = dataset["network"]
    yield from _one_of("dataset.network.name", network["name"], ("mlp",) if "units" in network else ("lenet",))
    for key in ("filters", "dense", "units"):
        if key in network and (not network[key] or min(network[key]) < 1):
            yield f"dataset.network.{key} is {network[key]}; give at least one number, each >= 1"
    if network.get("kernel_size", 1) % 2 == 0 or network.get("kernel_size", 1) < 1:
        yield f"dataset.network.kernel_size is {network['kernel_size']}; give an odd number >= 1"
    if "image_size" in dataset:
        size = dataset["image_size"]
        sizes = size if isinstance(size, list) else [size, size]
        least = 2 ** len(network["filters"])
        if len(sizes) != 2 or not all(isinstance(s, int) and s >= least for s in sizes):
            yield (
                f"dataset.image_size is {size}; give one integer or [height, width], each >= {least} "
                f"(dataset.network.filters has {len(network['filters'])} modules, each halves the image)"
            )


def _kinds(dataset: Settings) -> Sequence[str]:
    if "root" in dataset:
        return ("image_folder",)
    return tuple(ODDS_FILES) if "scaling" in dataset else ("digits", "mnist", "fmnist", "cifar10")


def _schedule_problems(group: str, phase: Settings) -> Iterator[str]:
    lr, epochs = phase["lr"], phase["epochs"]
    if not lr or len(lr) != len(epochs):
        yield f"{group}.lr has {len(lr)} phases and {group}.epochs {len(epochs)}; give both the same number, at least 1"
    for rate in lr:
        yield from _positive(f"{group}.lr", rate)
    for length in epochs:
        yield from _at_least(f"{group}.epochs", length, 0)
    if epochs and sum(epochs) < 1:
        yield f"{group}.epochs is {epochs}; give at least one epoch in all"
    yield from _at_least(f"{group}.batch_size", phase["batch_size"], 2)
    yield from _at_least(f"{group}.weight_decay", phase["weight_decay"], 0)
    yield from _one_of(f"{group}.loss", phase.get("loss", "mse"), ("mse", "cross_entropy"))
    yield from _one_of(f"{group}.data", phase.get("data", "all"), ("all", "unlabeled"))


def _method_problems(settings: Settings) -> Iterator[str]:
    method, pretrain = settings["method"], settings["pretrain"]
    # A group's name stands for its option: it may not be changed on its own.
    yield from _one_of("method.name", method["name"], ("deep_sad",) if "eta" in method else ("autoencoder",))
    yield from _one_of("pretrain.name", pretrain["name"], ("autoencoder",) if "data" in pretrain else ("none",))
    yield from _schedule_problems("method", method)
    if "eta" in method:
        yield from _positive("method.eta", method["eta"])
    center_from = method.get("center_from", "all")
    yield from _one_of("method.center_from", center_from, ("unlabeled_and_normal", "all", "labeled_normal"))
    if center_from == "labeled_normal" and settings["scenario"]["gamma_n"] == 0:
        yield (
            "method.center_from is labeled_normal, but scenario.gamma_n is 0, so no normal sample is labeled; raise "
            "scenario.gamma_n or use unlabeled_and_normal"
        )
    if method["name"] == "autoencoder" and "data" in pretrain:
        yield f"pretrain is {pretrain['name']}, but method=autoencoder trains one itself; use pretrain=none"
    if not lies_in_unit_interval(settings["dataset"]):
        for group, phase in (("method", method), ("pretrain", pretrain)):
            if phase.get("loss") == "cross_entropy":
                yield (
                    f"{group}.loss is cross_entropy, but z-scored columns do not lie in [0, 1]; use mse or "
                    "dataset.scaling=minmax"
                )


def _logger_problems(logger: Settings) -> Iterator[str]:
    yield from _one_of("logger.name", logger["name"], ("wandb",) if "mode" in logger else ("csv", "none"))
    yield from _one_of("logger.mode", logger.get("mode", "offline"), ("offline", "online"))


def _trainer_problems(trainer: Settings, multirun: bool) -> Iterator[str]:
    yield from _one_of("trainer.accelerator", trainer["accelerator"], ("auto", "cpu", "gpu"))
    yield from _one_of("trainer.strategy", trainer["strategy"], ("auto", "ddp"))
    yield from _one_of("trainer.precision", trainer["precision"], ("32-true", "bf16-mixed"))
    for key in ("devices", "num_nodes", "threads", "max_epochs"):
        if trainer[key] is not None:
            yield from _at_least(f"trainer.{key}", trainer[key], 1)
    yield from _at_least("trainer.checkpoint_seconds", trainer["checkpoint_seconds"], 0)
    ranks = trainer["devices"] * trainer["num_nodes"]
    if ranks > 1 and trainer["strategy"] != "ddp":
        yield f"trainer.devices is {trainer['devices']}, but one device is used without DDP; use trainer=ddp"
    if ranks > 1 and multirun:
        yield (
            "trainer=ddp spawns its own ranks, each of which would run the whole multirun again; run one experiment "
            "at a time, or many on one device each"
        )
    if trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and ranks > 1):
        import torch

        found = torch.cuda.device_count()
        # Without any GPU, auto is the CPU, where there is room for every rank.
        if found < trainer["devices"] and (found or trainer["accelerator"] == "gpu"):
            yield (
                f"trainer.accelerator is {trainer['accelerator']} with {trainer['devices']} device(s), but torch sees "
                f"{found} GPU(s); use fewer devices or trainer.accelerator=cpu"
            )
