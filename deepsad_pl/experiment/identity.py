"""What determines the result of an experiment; equal experiments share a run folder. Does not import torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsad_pl.common.components import fingerprint, load, targets_of
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.named_files import files_named
from deepsad_pl.data import image_folder
from deepsad_pl.data.adbench_tables import table_named
from deepsad_pl.data.digests import file_digests
from deepsad_pl.data.labeled_images import labeled_identity
from deepsad_pl.data.published import data_digest
from deepsad_pl.data.scenario import Scenario, is_given
from deepsad_pl.data.sources import TEST_SHARE
from deepsad_pl.settings import about
from deepsad_pl.settings.typed import arguments_of
from deepsad_pl.shallow.selection import MOST_FOLDS

Settings = Mapping[str, Any]

# These settings do not affect the result.
_NOT_THE_RESULT = ("_target_", "about", "cache")
_SEES = "sees_labeled_anomalies"


def hides_labeled_anomalies(method: Settings) -> bool:
    """Whether a method is unsupervised and not set to see labeled anomalies."""
    return about.of_method(method).labels == "hidden" and not method.get(_SEES, False)


def holdout_folds(method: Settings, scenario: Scenario) -> int | None:
    """The largest number of folds in which a method selects its hyper-parameters; None if it does not do so in folds.

    Args:
        method: settings of the method.
        scenario: scenario of its data.
    """
    folds = is_given(scenario) and about.of_method(method).holdout_folds and method.get("selection") == "holdout"
    return MOST_FOLDS if folds else None


def code_of(group: str, node: Settings) -> dict[str, Any]:
    """What distinguishes a component from the package's own component of that name; empty for the latter itself.

    Args:
        group: group of the configuration.
        node: the settings of the component, with ``name`` and ``_target_``.

    Raises:
        DeepSADError: if its source cannot be read.
    """
    target = node["_target_"]
    # A data set is identified by its kind; its name can be changed.
    key = "kind" if group == "dataset" else "name"
    same = [one for one in about.own(group).values() if one.get(key) is not None and one.get(key) == node.get(key)]
    if any(one.get("_target_") == target for one in same):
        return {}
    others = [one for one in targets_of(dict(node)) if not one.startswith("deepsad_pl.")]
    return {"_target_": target, **({"code": [fingerprint(one) for one in others]} if others else {})}


def data_identity(dataset: Settings, data_dir: Path, *, given: bool = False) -> dict[str, Any]:
    """The settings that determine the data, and the network recommended for them.

    Args:
        dataset: settings of the data set.
        data_dir: folder of the data.
        given: whether the labels come with the data.

    Raises:
        DeepSADError: if files cannot be read.
    """
    foreign = code_of("dataset", dataset)
    keys = ("kind", "scaling", "channels") if not foreign else ("scaling", *arguments_of("dataset", dataset))
    network = {key: value for key, value in dataset["network"].items() if key not in ("_target_", "about")}
    facts = about.of_dataset(dataset)
    chosen = {key: dataset[key] for key in keys if key in dataset and key not in facts.label_files} | foreign
    if not foreign and (table := table_named(dataset.get("table"))) is not None:
        chosen["table"] = table.name  # with or without its number, it is the same
    if not foreign and (share := dataset.get("test_share", TEST_SHARE)) != TEST_SHARE:
        chosen["test_share"] = share
    chosen["network"] = network | code_of("network", dataset["network"])
    if facts.files:
        paths = {*facts.files, *facts.label_files}
        chosen |= {key: value for key, value in arguments_of("dataset", dataset).items() if key not in paths}
        chosen["files"] = files_digest(dataset, facts.files, data_dir)
    chosen |= label_files_digest(dataset, data_dir)
    if (content := facts.content) is not None:
        chosen |= load(content, "dataset.about.content")(dataset, data_dir / "cache")
    if facts.classes_from_folder:
        root, cache_dir = Path(dataset["root"]).expanduser(), data_dir / "cache"
        chosen["image_size"] = image_size(dataset)
        if given and not foreign:
            chosen |= labeled_identity(dataset, cache_dir)
        else:
            chosen["files"] = image_folder.content_digest(root, cache_dir)
    elif (digest := data_digest(dataset.get("kind", ""), data_dir, dataset.get("table"))) is not None:
        chosen["data_digest"] = digest
    return chosen


def label_files_digest(dataset: Settings, data_dir: Path) -> dict[str, dict[str, list[str]]]:
    """The part of a data set's identity with the labels that were filled in later; empty without any.

    Args:
        dataset: settings of the data set.
        data_dir: folder of the data, below which digests are cached.

    Raises:
        DeepSADError: if a file cannot be read.
    """
    keys = [key for key in about.of_dataset(dataset).label_files if dataset.get(key) is not None]
    return {"label_files": files_digest(dataset, keys, data_dir)} if keys else {}


def files_digest(dataset: Settings, keys: Sequence[str], data_dir: Path) -> dict[str, list[str]]:
    """The SHA-256 of the files that settings of a data set name, by setting.

    Args:
        dataset: settings of the data set.
        keys: settings that name files, see :func:`~deepsad_pl.common.named_files.files_named`.
        data_dir: folder of the data, below which digests are cached.

    Raises:
        DeepSADError: if a file cannot be read.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        try:
            found[key] = [
                file_digests(path.parent, [path.name], data_dir / "cache")[0] for path in files_named(dataset.get(key))
            ]
        except OSError as error:
            raise DeepSADError(f"dataset.{key} cannot be read ({error}); give a readable file") from error
    return found


def training_identity(group: str, phase: Settings, scenario: Scenario) -> dict[str, Any]:
    """The settings of a training, without those that have no effect.

    Args:
        group: ``method`` or ``pretrain``.
        phase: settings of the training.
        scenario: scenario of its data.
    """
    chosen = {key: value for key, value in phase.items() if key not in _NOT_THE_RESULT} | code_of(group, phase)
    if group == "method":
        facts = about.of_method(phase)
        for setting, unused in facts.unused.items():
            for key in unused.get(phase.get(setting), ()):
                chosen.pop(key, None)
        if (folds := holdout_folds(phase, scenario)) is not None:
            chosen["holdout_folds"] = folds
        chosen.pop(_SEES, None)
        # Without labels, it does not matter whether the method sees them.
        if scenario.has_known_anomalies and hides_labeled_anomalies(phase):
            chosen[_SEES] = False
        if not scenario.has_known_anomalies:
            for setting, same in facts.same_without_anomalies.items():
                if chosen.get(setting) in same:
                    chosen[setting] = same[chosen[setting]]
            for key in facts.unused_without_labels if not scenario.gamma_n else ():
                chosen.pop(key, None)
    elif not scenario.has_known_anomalies:
        chosen.pop("data", None)
    if "lr" in phase and "epochs" in phase:
        chosen["schedule"] = _merged(chosen.pop("lr"), chosen.pop("epochs"))
    return chosen


def image_size(dataset: Settings) -> tuple[int, int]:
    """The size (H, W) of the images of an image folder; a single number sets both."""
    size = dataset["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    return height, width


def _merged(lr: Sequence[float], epochs: Sequence[int]) -> list[list[float]]:
    """The schedule without empty phases, with adjacent phases of equal learning rate merged."""
    schedule: list[list[float]] = []
    for rate, length in zip(lr, epochs, strict=True):
        if schedule and schedule[-1][0] == rate:
            schedule[-1][1] += length
        elif length:
            schedule.append([rate, length])
    return schedule
