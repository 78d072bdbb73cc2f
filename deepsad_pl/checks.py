"""What can be wrong with a configuration: every problem in one sentence, before any work.

Works on plain dictionaries and without torch, so that a sweep can check all its jobs before the first one starts.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from deepsad_pl.catalog import METHODS, is_shallow
from deepsad_pl.compiling import missing_for_compiling
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.own_metrics import metric_problems
from deepsad_pl.ranks import started_ranks
from deepsad_pl.schema import METHOD_CONFIGS, PRETRAIN_CONFIGS
from deepsad_pl.trainer_arguments import argument_problems, has_arguments
from deepsad_pl.wandb_run import trial_id

Settings = Mapping[str, Any]

# How many classes the data sets have whose classes are known.
_CLASSES = {**dict.fromkeys(("digits", "mnist", "fmnist", "cifar10"), 10), **dict.fromkeys(ODDS_FILES, 2), "toy": 4}


def setting_problems(settings: Settings, *, multirun: bool = False, tasks: int | None = None) -> list[str]:
    """All that is wrong with the settings, but for the scenario's classes and numbers.

    Args:
        settings: the resolved configuration as plain dictionaries (see ``deepsad_pl/schema.py``).
        multirun: whether this is one job of a sweep.
        tasks: how many processes a launcher will start for the job, on another machine; None if it runs on this one.
    """
    return [
        *_folder_problems(settings),
        *_dataset_problems(settings["dataset"]),
        *_method_problems(settings),
        *_trainer_problems(settings, multirun, tasks),
        *_logger_problems(settings["logger"], multirun),
        *metric_problems(settings["metrics"]),
    ]


def lies_in_unit_interval(dataset: Settings) -> bool:
    """Whether the inputs lie in [0, 1]: images and min-max scaled tables do, z-scored ones do not."""
    return bool(dataset.get("scaling", "minmax") == "minmax")


def _one_of(key: str, value: object, allowed: Sequence[object]) -> Iterator[str]:
    if value not in allowed:
        yield f"{key} is {value!r}; give one of {', '.join(map(str, allowed))}"


def _at_least(key: str, value: float, least: float) -> Iterator[str]:
    if not least <= value < math.inf:
        yield f"{key} is {value}; give a number >= {least}"


def _positive(key: str, value: float) -> Iterator[str]:
    if not 0 < value < math.inf:
        yield f"{key} is {value}; give a number > 0"


def names_a_folder(key: str, name: str) -> Iterator[str]:
    """What is wrong with a name that a folder is to have."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        yield f"{key} is {name!r}, but it names a folder; use letters, digits, '.', '_' and '-'"


def output_dir_problems(output_dir: str) -> Iterator[str]:
    """What is wrong with the folder for the results: empty, it would be the working directory."""
    if not output_dir.strip():
        yield "output_dir is empty; give the folder for the results, such as output_dir=runs"


def _folder_problems(settings: Settings) -> Iterator[str]:
    yield from output_dir_problems(settings["output_dir"])
    if not settings["dataset"].get("root", "given").strip():
        yield "dataset.root is empty; give the folder that holds train/ and test/"


def _dataset_problems(dataset: Settings) -> Iterator[str]:
    yield from names_a_folder("dataset.name", dataset["name"])
    name, kind = dataset["name"], dataset["kind"]
    yield from _one_of("dataset.kind", kind, _kinds(dataset))
    if name in _CLASSES and name != kind in _kinds(dataset):
        yield (
            f"dataset.kind is {kind}, but dataset.name is {name}, which is another data set; give it a dataset.name of "
            f"its own, or choose dataset={kind} as it is"
        )
    yield from _one_of("dataset.scaling", dataset.get("scaling", "zscore"), ("zscore", "minmax"))
    yield from _one_of("dataset.channels", dataset.get("channels", 1), (1, 3))
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


def class_name_problems(dataset: Settings) -> Iterator[str]:
    """What is wrong with the names of a data set's classes, where the settings give them."""
    names = dataset.get("classes")
    if names is None:
        return
    if "" in names:
        yield f"dataset.classes is {names}; give every class a name"
    # Composed and decomposed letters look the same.
    counts = Counter(composed(name) for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:
        yield f"dataset.classes has {', '.join(twice)} more than once; give every class a name of its own"
    count = _CLASSES.get(dataset["kind"], len(names))
    if len(names) != count:
        yield f"dataset.classes has {len(names)} names, but {dataset['kind']} has {count} classes; name each of them"


def _kinds(dataset: Settings) -> Sequence[str]:
    if "root" in dataset:
        return ("image_folder",)
    return (*ODDS_FILES, "toy") if "scaling" in dataset else ("digits", "mnist", "fmnist", "cifar10")


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
    if phase.get("hidden") == []:
        yield f"{group}.hidden is []; give at least one layer, or null for the network's sizes"
    for value in phase.get("hidden") or ():
        yield from _at_least(f"{group}.hidden", value, 1)
    if phase.get("latent") is not None:
        yield from _at_least(f"{group}.latent", phase["latent"], 1)


def _method_problems(settings: Settings) -> Iterator[str]:
    method, pretrain = settings["method"], settings["pretrain"]
    # A group's name stands for its option: it may not be changed on its own.
    fitting = [name for name, kind in METHODS.items() if _has_keys(method, METHOD_CONFIGS[kind.schema])]
    yield from _one_of("method.name", method["name"], fitting)
    choices = [name for name, config in PRETRAIN_CONFIGS.items() if _has_keys(pretrain, config)]
    yield from _one_of("pretrain.name", pretrain["name"], choices)
    if method["name"] not in fitting or pretrain["name"] not in choices:
        return
    kind = METHODS[method["name"]]
    if pretrain["name"] not in kind.pretrain:
        yield (
            f"pretrain is {pretrain['name']}, but method={method['name']} {kind.why}; use "
            f"pretrain={' or '.join(kind.pretrain)}"
        )
    if pretrain["name"] != "none":
        yield from _schedule_problems("pretrain", pretrain)
    yield from _shallow_problems(method) if is_shallow(method["name"]) else _schedule_problems("method", method)
    if "kappa" in method:
        yield from _at_least("method.kappa", method["kappa"], 0)
    for key in ("eta", "eta_u", "eta_l"):
        if key in method:
            yield from _positive(f"method.{key}", method[key])
    for key, value in (("nu", method.get("nu", 0.5)), *(("nus", nu) for nu in method.get("nus", ()))):
        if not 0 < value < 1:
            yield f"method.{key} is {value}; give a share between 0 and 1"
    yield from _label_problems(settings)
    if not lies_in_unit_interval(settings["dataset"]):
        for group, phase in (("method", method), ("pretrain", pretrain)):
            if phase.get("loss") == "cross_entropy":
                yield (
                    f"{group}.loss is cross_entropy, but z-scored columns do not lie in [0, 1]; use mse or "
                    "dataset.scaling=minmax"
                )


def _has_keys(group: Settings, config: type[Any]) -> bool:
    return {field.name for field in fields(config)} == set(group)


def _shallow_problems(method: Settings) -> Iterator[str]:
    hybrid = "autoencoder" in METHODS[method["name"]].pretrain
    yield from _one_of("method.features", method["features"], ("bottleneck",) if hybrid else ("raw",))
    yield from _one_of("method.selection", method.get("selection", "none"), ("test_subset", "holdout", "none"))
    for value in method.get("gammas", ()):
        yield from _positive("method.gammas", value)
    for value in method.get("bandwidths", ()):
        if not 1e-50 <= value <= 1e50:
            yield f"method.bandwidths is {value}; give widths between 1e-50 and 1e50, beyond which densities overflow"
    for key in ("gammas", "nus", "bandwidths"):
        if key in method and not method[key]:
            yield f"method.{key} is empty; give at least one value"
    for key, least in (("trees", 1), ("subsample", 2), ("folds", 2)):
        if key in method:
            yield from _at_least(f"method.{key}", method[key], least)


def _label_problems(settings: Settings) -> Iterator[str]:
    method, scenario = settings["method"], settings["scenario"]
    center_from = method.get("center_from", "all")
    yield from _one_of("method.center_from", center_from, ("unlabeled_and_normal", "all", "labeled_normal"))
    if center_from == "labeled_normal" and scenario["gamma_n"] == 0:
        yield (
            "method.center_from is labeled_normal, but scenario.gamma_n is 0, so no normal sample is labeled; raise "
            "scenario.gamma_n or use unlabeled_and_normal"
        )
    if METHODS[method["name"]].needs_labeled_anomalies and (scenario["gamma_l"] == 0 or scenario["k_l"] == 0):
        yield (
            f"method={method['name']} learns from labeled anomalies, but scenario.gamma_l={scenario['gamma_l']} and "
            f"scenario.k_l={scenario['k_l']} leave none; raise both above 0 or choose an unsupervised method"
        )


def _logger_problems(logger: Settings, multirun: bool) -> Iterator[str]:
    yield from _one_of("logger.name", logger["name"], ("wandb",) if "mode" in logger else ("csv", "none"))
    yield from _one_of("logger.mode", logger.get("mode", "offline"), ("offline", "online"))
    if multirun and logger["name"] == "wandb" and trial_id() is not None:
        yield (
            "logger=wandb under an agent of W&B has one run for one experiment, but this is a sweep of several; sweep "
            "with W&B alone, or use logger=csv"
        )


def _trainer_problems(settings: Settings, multirun: bool, tasks: int | None) -> Iterator[str]:
    trainer, method = settings["trainer"], settings["method"]["name"]
    yield from _one_of("trainer.accelerator", trainer["accelerator"], ("auto", "cpu", "gpu"))
    yield from _one_of("trainer.strategy", trainer["strategy"], ("auto", "ddp"))
    yield from _one_of("trainer.precision", trainer["precision"], ("32-true", "bf16-mixed"))
    for key in ("devices", "num_nodes", "threads", "max_epochs"):
        if trainer[key] is not None:
            yield from _at_least(f"trainer.{key}", trainer[key], 1)
    yield from _at_least("trainer.checkpoint_seconds", trainer["checkpoint_seconds"], 0)
    if has_arguments(trainer):
        yield from argument_problems(trainer)
    ranks = trainer["devices"] * trainer["num_nodes"]
    if ranks > 1 and trainer["strategy"] != "ddp":
        yield f"trainer.devices is {trainer['devices']}, but one device is used without DDP; use trainer=ddp"
    if ranks > 1 and method in METHODS and is_shallow(method):
        yield f"trainer.devices is {trainer['devices']}, but method={method} runs in one process; use trainer=auto"
    if tasks is not None and ranks != tasks:
        yield (
            f"trainer.devices x trainer.num_nodes is {ranks}, but hydra.launcher starts {tasks} task(s) a job; use "
            "hydra/launcher=slurm, which follows trainer, and give one trainer to all jobs of a sweep"
        )
    elif ranks > 1 and multirun and tasks is None and started_ranks() != ranks:
        yield (
            "trainer=ddp spawns its own ranks, each of which would run the whole multirun again; run one experiment "
            "at a time, many on one device each, or hydra/launcher=slurm, which starts the ranks"
        )
    if trainer["compile"] and ranks > 1:
        yield (
            f"trainer.compile is true with {ranks} devices, but batch norm over several ranks cannot be compiled; use "
            "one device or trainer.compile=false"
        )
    if tasks is not None:
        # The compilers and GPUs of this machine say nothing about those of the job, which looks again.
        return
    if trainer["compile"]:
        yield from _compile_problems(trainer["accelerator"])
    if trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and ranks > 1):
        import torch

        found = torch.cuda.device_count()
        # Without any GPU, auto is the CPU, where there is room for every rank.
        if found < trainer["devices"] and (found or trainer["accelerator"] == "gpu"):
            yield (
                f"trainer.accelerator is {trainer['accelerator']} with {trainer['devices']} device(s), but torch sees "
                f"{found} GPU(s); use fewer devices or trainer.accelerator=cpu"
            )


def _compile_problems(accelerator: str) -> Iterator[str]:
    on_gpu = accelerator == "gpu"
    if accelerator == "auto":
        import torch

        on_gpu = torch.cuda.is_available()
    if missing := missing_for_compiling(on_gpu):
        yield (
            f"trainer.compile is true, but torch.compile needs {missing}, which this machine lacks; install it or use "
            "trainer.compile=false"
        )
