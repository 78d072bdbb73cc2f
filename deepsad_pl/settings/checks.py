"""Check a configuration before any work, and report every problem in one sentence.

Works on plain dictionaries and without torch, so that a sweep can check all its jobs before the first one starts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deepsad_pl.common.components import load
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import problems
from deepsad_pl.common.ranks import started_ranks
from deepsad_pl.data.class_names import composed
from deepsad_pl.data.exposure import exposure_problems
from deepsad_pl.data.queried_labels import is_queried
from deepsad_pl.data.scenario import labels_anomalies
from deepsad_pl.settings import about
from deepsad_pl.settings.about import Settings
from deepsad_pl.settings.own_metrics import metric_problems
from deepsad_pl.settings.schema import GROUP_CONFIGS, KINDS
from deepsad_pl.settings.typed import accepted, component_problems, has_types
from deepsad_pl.tracking.loggers import node_problems, wandb_settings
from deepsad_pl.tracking.wandb_run import destination_problems, trial_id
from deepsad_pl.training.compiling import missing_for_compiling
from deepsad_pl.training.trainer_arguments import argument_problems, has_arguments

# Of an image's height and width; one such image of three channels is 200 MB in training.
_MOST_PIXELS = 4096
# Of a folder's name; file systems allow 255, and names of files are made from it.
_MOST_BYTES = 200


def incomplete(settings: Settings) -> list[str]:
    """List the missing keys that all other checks depend on."""
    missing = []
    for group in ("dataset", "pretrain", "method"):
        node = settings[group]
        for key, what in (("name", "a name, used for its folders"), ("_target_", "the dotted path of its code")):
            # Without a pre-training there is nothing to instantiate.
            if key not in node and not (group == "pretrain" and key == "_target_"):
                missing.append(f"{group} has no {key}; add {what} to its YAML")
        missing += about.about_problems(group, node)
    for key, what in (("classes", "the names of its classes"), ("network", "the network recommended for it")):
        if key not in settings["dataset"] and not (key == "classes" and _finds_its_classes(settings)):
            missing.append(f"dataset has no {key}; add {what} to its YAML")
    missing += _node_problems("dataset.network", settings["dataset"].get("network", {}))
    return missing


def _node_problems(key: str, node: object) -> Iterator[str]:
    """Yield a problem if a part of the configuration that describes a network is not a mapping."""
    if not isinstance(node, Mapping):
        yield f"{key} is {node!r}; it must be a mapping with _target_, such as that of network=mlp"


def _finds_its_classes(settings: Settings) -> bool:
    """Whether the classes are read from the data, or not needed."""
    dataset = settings["dataset"]
    try:
        facts = about.of_dataset(dataset)
    except DeepSADError:  # reported as problems of about
        return True
    return "given" in settings["scenario"] or facts.classes_from_folder or facts.class_names is not None


def setting_problems(settings: Settings, *, multirun: bool = False, tasks: int | None = None) -> list[str]:
    """List all problems with the settings, except those of the scenario's classes and numbers.

    Args:
        settings: the resolved configuration as plain dictionaries (see ``deepsad_pl/settings/schema.py``).
        multirun: whether this is one job of a sweep.
        tasks: number of processes that a launcher will start for the job on another machine; None if it runs here.
    """
    return [
        *_folder_problems(settings),
        *_dataset_problems(settings),
        *_method_problems(settings),
        *_threshold_problems(settings),
        *_query_problems(settings),
        *_trainer_problems(settings, multirun, tasks),
        *_logger_problems(settings["logger"], multirun),
        *metric_problems(settings["metrics"]),
    ]


def _value_problems(group: str, values: Settings) -> Iterator[str]:
    for key, kind in KINDS[group].items():
        if key in values:
            yield from problems(f"{group}.{key}", values[key], kind)


def names_a_folder(key: str, name: str) -> Iterator[str]:
    """Yield a problem if a name cannot be used for a folder."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        yield f"{key} is {name!r}, but a folder is named after it; use only letters, digits, '.', '_' and '-'"
    elif (length := len(name.encode())) > _MOST_BYTES:
        yield f"{key} has {length} bytes, but a folder is named after it; use a name of at most {_MOST_BYTES} bytes"


def output_dir_problems(output_dir: str) -> Iterator[str]:
    """Yield a problem if ``output_dir`` is empty, which would mean the working directory."""
    if not output_dir.strip():
        yield "output_dir is empty; set the folder for the results, such as output_dir=runs"


def _folder_problems(settings: Settings) -> Iterator[str]:
    yield from output_dir_problems(settings["output_dir"])
    dataset = settings["dataset"]
    if about.of_dataset(dataset).classes_from_folder and not str(dataset.get("root", "given")).strip():
        yield "dataset.root is empty; set the folder that holds train/ and test/"


def _name_problems(group: str, node: Settings, key: str | None = None) -> Iterator[str]:
    """Yield a problem if a component has the name of a different component of the package."""
    own, target = about.own(group).get(node.get("name", "")), node.get("_target_")
    if own is not None and own.get("_target_") != target:
        yield (
            f"{key or group}.name is {node['name']}, but _target_ is {target}, which is not that of "
            f"{group}={node['name']}; choose {group}={node['name']} unchanged, or give this one its own name"
        )


def _dataset_problems(settings: Settings) -> Iterator[str]:
    dataset, network = settings["dataset"], "network" if settings["network"] else "dataset.network"
    yield from names_a_folder("dataset.name", dataset["name"])
    yield from component_problems("dataset", dataset)
    # Its own check may rely on the types.
    if has_types("dataset", dataset) and (check := about.of_dataset(dataset).check) is not None:
        given = accepted(check, {"given": "given" in settings["scenario"]})
        yield from load(check, "dataset.about.check")(dataset, **given)
    of_that_name = about.own("dataset").get(dataset["name"], {})
    for key in ("kind", "_target_"):
        others = [one.get(key) for one in about.own("dataset").values()]
        if of_that_name and of_that_name.get(key) != dataset.get(key) and dataset.get(key) in others:
            yield (
                f"dataset.{key} is {dataset.get(key)}, but dataset.name is {dataset['name']}, which is another data "
                f"set; give this one its own dataset.name, or choose dataset={dataset.get('kind')} unchanged"
            )
            break
    yield from _name_problems("network", dataset["network"], network)
    yield from component_problems("network", dataset["network"], network)
    yield from _size_problems(dataset)
    if settings["method"].get("features") != "raw":
        yield from _input_problems(dataset, network)
    decoder = dataset["network"].get("decoder")
    if isinstance(decoder, Mapping):
        yield from component_problems("network", decoder, f"{network}.decoder")


def _input_problems(dataset: Settings, key: str) -> Iterator[str]:
    """Yield a problem if the network takes images and the data are rows, or the other way round."""
    node = dataset["network"]
    # A data set from outside that leaves it open may have either.
    has = (dataset.get("about") or {}).get("inputs")
    takes = about.declared("network", node).inputs
    if None not in (has, takes) and has != takes:
        fitting = [name for name, own in about.own("network").items() if own.get("about", {}).get("inputs") == has]
        way_out = f"choose {key}={' or '.join(fitting)}" if key == "network" else f"choose a network for {has}"
        yield (
            f"{key} is {node.get('name', node['_target_'])}, which takes {takes}, but dataset={dataset['name']} has "
            f"{has}; leave {key} out, or {way_out}"
        )


def _size_problems(dataset: Settings) -> Iterator[str]:
    """Yield a problem if the image size in the settings is too small for the network, or too large for any memory."""
    size, network = dataset.get("image_size"), dataset["network"]
    sizes = size if isinstance(size, list) else [size, size]
    halvings = network.get(about.declared("network", network).halvings or "")
    least = 2 ** len(halvings) if isinstance(halvings, list) else 1
    if size is not None and not (
        len(sizes) == 2 and all(isinstance(s, int) and least <= s <= _MOST_PIXELS for s in sizes)
    ):
        yield (
            f"dataset.image_size is {size}; it must be one integer or [height, width], each from {least} to "
            f"{_MOST_PIXELS} for the network"
        )


def class_name_problems(dataset: Settings) -> Iterator[str]:
    """Yield each problem with the class names, if the settings give them."""
    names = dataset.get("classes")
    if names is None:
        return
    if of_type := list(problems("dataset.classes", names, list[str])):
        yield from of_type
        return
    if "" in names:
        yield f"dataset.classes is {names}; give every class a name"
    # Composed and decomposed Unicode letters look the same.
    counts = Counter(composed(name) for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:
        yield f"dataset.classes has {', '.join(twice)} more than once; use a different name for every class"
    count = about.of_dataset(dataset).classes or len(names)
    if len(names) != count:
        yield f"dataset.classes has {len(names)} names, but {dataset['name']} has {count} classes; name every class"


def _schedule_problems(group: str, phase: Settings) -> Iterator[str]:
    lr, epochs = phase.get("lr"), phase.get("epochs")
    # A number in place of a list is reported with the types.
    lr = [lr] if isinstance(lr, int | float) else lr
    epochs = [epochs] if isinstance(epochs, int | float) else epochs
    if not isinstance(lr, list) or not isinstance(epochs, list):
        return
    if not lr or len(lr) != len(epochs):
        # Not an example that is wrong itself.
        rate = next((rate for rate in lr if isinstance(rate, float) and 0 < rate < 1), 0.001)
        length = next((length for length in epochs if isinstance(length, int) and length > 0), 100)
        yield (
            f"{group}.lr has {counted(len(lr), 'phase')}, but {group}.epochs has {len(epochs)}; both need the same "
            f"number, at least 1, such as '{group}.lr=[{rate}]' '{group}.epochs=[{length}]'"
        )
    if epochs and all(isinstance(length, int) for length in epochs) and sum(epochs) < 1:
        yield f"{group}.epochs is {epochs}; there must be at least one epoch in total"


def _method_problems(settings: Settings) -> Iterator[str]:
    method, pretrain, dataset = settings["method"], settings["pretrain"], settings["dataset"]
    kind = about.of_method(method)
    yield from names_a_folder("method.name", method["name"])
    yield from _name_problems("method", method)
    yield from _name_problems("pretrain", pretrain)
    phases = [("method", method), *([("pretrain", pretrain)] if pretrain.get("_target_") is not None else [])]
    for group, phase in reversed(phases):
        yield from _schedule_problems(group, phase)
        yield from component_problems(group, phase)
    if pretrain["name"] not in kind.pretrain:
        way_out = " or ".join(kind.pretrain)
        yield f"pretrain is {pretrain['name']}, which method={method['name']} cannot start from; use pretrain={way_out}"
    elif kind.shallow and (method.get("features") == "bottleneck") != (pretrain.get("_target_") is not None):
        features = "raw" if method.get("features") == "bottleneck" else "bottleneck"
        yield f"method.features is {method.get('features')!r} with pretrain={pretrain['name']}; use {features}"
    if not kind.shallow and "batch_size" not in method:
        yield f"method={method['name']} has no batch_size; add one to its YAML, such as ${{recipe.batch_size}}"
    yield from _label_problems(settings, kind)
    for module, extra in kind.needs_extra.items():
        if find_spec(module) is None:
            yield (
                f"method={method['name']} needs the package {module}, which is not installed; run pip install "
                f"'deepsad-pl[{extra}]' or choose another method"
            )
    for key in kind.files:
        if isinstance(method.get(key), str) and not Path(method[key]).expanduser().is_file():
            yield f"method.{key} is {method[key]}, but there is no such file; give the path of a file"
    for group, phase in phases:
        facts: about.TrainingAbout = about.declared(group, phase)
        for key, value in facts.needs_unit_interval.items():
            if phase.get(key) == value and not about.of_dataset(dataset).lies_in_unit_interval(dataset.get("scaling")):
                yield (
                    f"{group}.{key} is {value}, but the inputs do not lie in [0, 1]; choose another {group}.{key}, "
                    "or use dataset.scaling=minmax"
                )
        network = dataset["network"]
        if facts.sized_by_network and phase["latent"] is None and not (network.get("units") or network.get("dense")):
            yield (
                f"{group}.latent is null, but the network has neither units nor dense to derive it from; set "
                f"{group}.latent"
            )


def _label_problems(settings: Settings, kind: about.MethodAbout) -> Iterator[str]:
    method, scenario = settings["method"], settings["scenario"]
    if "given" in scenario or is_queried(scenario):
        # How much is labeled is known only once the data are read.
        return
    if (exposure := scenario.get("exposure")) is not None:
        are_images = about.of_dataset(settings["dataset"]).inputs == "images"
        yield from exposure_problems(exposure, settings["dataset"], are_images=are_images)
    for key, value in kind.needs_labeled_normals.items():
        if method.get(key) == value and scenario["gamma_n"] == 0:
            yield (
                f"method.{key} is {value}, but scenario.gamma_n is 0, so no normal sample is labeled; raise "
                f"scenario.gamma_n or choose another method.{key}"
            )
    if kind.labels == "needed" and not labels_anomalies(scenario):
        key = _amount_key(scenario)
        yield (
            f"method={method['name']} learns from labeled anomalies, but scenario.{key}={scenario[key]} and "
            f"scenario.k_l={scenario['k_l']} leave none; raise both above 0 or choose an unsupervised method"
        )


def _amount_key(scenario: Settings) -> str:
    """The setting that says how many anomalies are labeled."""
    return "gamma_l" if scenario.get("labels") is None else "labels"


def _threshold_problems(settings: Settings) -> Iterator[str]:
    threshold, scenario = settings["threshold"], settings["scenario"]
    # Each choice has settings of its own, by which it is known.
    chosen = next(
        name
        for name, kind in GROUP_CONFIGS["threshold"].items()
        if {one.name for one in fields(kind)} == set(threshold)
    )
    if threshold["name"] != chosen:
        yield (
            f"threshold.name is {threshold['name']!r}, but threshold={chosen} is chosen; choose with "
            "threshold=<name>, not with threshold.name"
        )
        return
    yield from _value_problems("threshold", threshold)
    # How much is labeled in data that bring their labels is known only once they are read.
    if threshold["name"] == "labeled" and "given" not in scenario and not is_queried(scenario):
        for kind, key in (("normal samples", "gamma_n"), ("anomalies", _amount_key(scenario)), ("anomalies", "k_l")):
            if scenario[key] == 0:
                yield (
                    f"threshold=labeled needs labeled {kind}, but scenario.{key} is 0; raise it or choose "
                    "threshold=conformal"
                )


def _query_problems(settings: Settings) -> Iterator[str]:
    if not is_queried(settings["scenario"]):
        return
    if "share" in settings["threshold"]:
        yield (
            f"threshold={settings['threshold']['name']} keeps samples out of training, but scenario=queried asks about "
            "any sample of the pool; use threshold=none or threshold=quantile"
        )
    if settings["trainer"]["devices"] * settings["trainer"]["num_nodes"] > 1:
        yield (
            "scenario=queried trains one experiment after the other, which trainer=ddp cannot do in one command; use "
            "one device"
        )
    if settings["scenario"]["rounds"] and wandb_settings(settings["logger"]) is not None and trial_id() is not None:
        yield (
            "under a W&B agent, logger=wandb has one run for a single experiment, but scenario.rounds runs several; "
            "use logger=csv"
        )


def _logger_problems(logger: Settings, multirun: bool) -> Iterator[str]:
    own = ("csv", "none") if "csv" in logger else ("none",)
    if (wandb := wandb_settings(logger)) is not None:
        own = ("wandb", "csv") if "csv" in logger else ("wandb",)
        yield from problems("logger.mode", wandb["mode"], Literal["offline", "online"])
        yield from destination_problems(wandb["project"], wandb["tags"])
    if logger["name"] not in own:
        choice = f"choose one of {', '.join(own)}" if own[1:] else f"it must be {own[0]}"
        yield f"logger.name is {logger['name']!r}; {choice}"
    yield from node_problems(logger)
    if multirun and wandb is not None and trial_id() is not None:
        yield (
            "a W&B agent gives logger=wandb one run, for one experiment, but this command sweeps several; leave the "
            "sweep to W&B alone, or use logger=csv"
        )


def _trainer_problems(settings: Settings, multirun: bool, tasks: int | None) -> Iterator[str]:
    trainer, method = settings["trainer"], settings["method"]["name"]
    yield from _value_problems("trainer", trainer)
    if has_arguments(trainer):
        yield from argument_problems(trainer)
    ranks = trainer["devices"] * trainer["num_nodes"]
    if ranks > 1 and trainer["strategy"] != "ddp":
        yield f"trainer.devices is {trainer['devices']}, but only one device is used without DDP; use trainer=ddp"
    if ranks > 1 and about.of_method(settings["method"]).shallow:
        yield f"trainer.devices is {trainer['devices']}, but method={method} runs in one process; use trainer=auto"
    if tasks is not None and ranks != tasks:
        yield (
            f"trainer.devices x trainer.num_nodes is {ranks}, but hydra.launcher starts {counted(tasks, 'task')} per "
            "job; use hydra/launcher=slurm, which follows trainer, and the same trainer for all jobs of a sweep"
        )
    elif ranks > 1 and multirun and tasks is None and started_ranks() != ranks:
        yield (
            "trainer=ddp spawns its own ranks, each of which would run the whole multirun again; run one experiment "
            "at a time, run each on one device, or use hydra/launcher=slurm, which starts the ranks itself"
        )
    if trainer["compile"] and ranks > 1:
        yield (
            f"trainer.compile is true with {ranks} devices, but batch norm over several ranks cannot be compiled; use "
            "one device or trainer.compile=false"
        )
    if tasks is not None:
        # The job runs on another machine, so it checks compilers and GPUs itself.
        return
    if trainer["compile"]:
        yield from _compile_problems(trainer["accelerator"])
    if trainer["accelerator"] == "gpu" or (trainer["accelerator"] == "auto" and ranks > 1):
        import torch

        found = torch.cuda.device_count()
        # Without a GPU, auto means the CPU, which can run any number of ranks.
        if found < trainer["devices"] and (found or trainer["accelerator"] == "gpu"):
            yield (
                f"trainer.accelerator is {trainer['accelerator']} with {counted(trainer['devices'], 'device')}, but "
                f"torch sees {counted(found, 'GPU')}; use fewer devices or trainer.accelerator=cpu"
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
