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
from deepsad_pl.networks.usual import USUAL
from deepsad_pl.settings import about
from deepsad_pl.settings.choices import Choice, DatasetChoice, MethodChoice, TrainingChoice
from deepsad_pl.shallow.selection import MOST_FOLDS

# These settings do not affect the result.
_NOT_THE_RESULT = ("_target_", "cache")
_SEES = "sees_labeled_anomalies"


def holdout_folds(method: MethodChoice, scenario: Scenario) -> int | None:
    """The largest number of folds in which a method selects its hyper-parameters; None if it does not do so in folds.

    Args:
        method: the method.
        scenario: scenario of its data.
    """
    folds = is_given(scenario) and method.about.holdout_folds and method.arguments.get("selection") == "holdout"
    return MOST_FOLDS if folds else None


def code_of(choice: Choice) -> dict[str, Any]:
    """What distinguishes a choice from the package's own choice of that name; empty for the latter itself.

    Raises:
        DeepSADError: if its source cannot be read.
    """
    # A data set is identified by its kind; its name can be changed.
    key, called = ("kind", choice.kind) if isinstance(choice, DatasetChoice) else ("name", choice.name)
    own = about.own(choice.group).values()
    if any((one.get(key), one.get("_target_")) == (called, choice.target) for one in own):
        return {}
    others = [one for one in targets_of(choice.settings()) if not one.startswith("deepsad_pl.")]
    return {"_target_": choice.target, **({"code": [fingerprint(one) for one in others]} if others else {})}


def data_identity(dataset: DatasetChoice, data_dir: Path, *, given: bool = False) -> dict[str, Any]:
    """The settings that determine the data, and the network recommended for them.

    Args:
        dataset: the data set.
        data_dir: folder of the data.
        given: whether the labels come with the data.

    Raises:
        DeepSADError: if files cannot be read.
    """
    foreign, facts, settings = code_of(dataset), dataset.about, dataset.settings()
    keys = ("kind", "scaling", "channels") if not foreign else ("scaling", *dataset.arguments)
    network = {key: value for key, value in dataset.network.settings().items() if key != "_target_"}
    chosen = {key: settings[key] for key in keys if key in settings and key not in facts.label_files} | foreign
    if not foreign and (table := table_named(settings.get("table"))) is not None:
        chosen["table"] = table.name  # with or without its number, it is the same
    if not foreign and (share := settings.get("test_share", TEST_SHARE)) != TEST_SHARE:
        chosen["test_share"] = share
    network = {key: value for key, value in network.items() if key not in USUAL or value != USUAL[key]}
    chosen["network"] = network | code_of(dataset.network)
    if facts.files:
        paths = {*facts.files, *facts.label_files}
        chosen |= {key: value for key, value in dataset.arguments.items() if key not in paths}
        chosen["files"] = files_digest(dataset, facts.files, data_dir)
    chosen |= label_files_digest(dataset, data_dir)
    if (content := facts.content) is not None:
        chosen |= load(content, "dataset.about.content")(settings, data_dir / "cache")
    if facts.classes_from_folder:
        root, cache_dir = Path(settings["root"]).expanduser(), data_dir / "cache"
        size = settings["image_size"]
        chosen["image_size"] = tuple(size) if isinstance(size, list) else (size, size)
        if given and not foreign:
            chosen |= labeled_identity(settings, cache_dir)
        else:
            chosen["files"] = image_folder.content_digest(root, cache_dir)
    elif (digest := data_digest(dataset.kind, data_dir, settings.get("table"))) is not None:
        chosen["data_digest"] = digest
    return chosen


def label_files_digest(dataset: DatasetChoice, data_dir: Path) -> dict[str, dict[str, list[str]]]:
    """The part of a data set's identity with the labels that were filled in later; empty without any.

    Args:
        dataset: the data set.
        data_dir: folder of the data, below which digests are cached.

    Raises:
        DeepSADError: if a file cannot be read.
    """
    keys = [key for key in dataset.about.label_files if dataset.arguments.get(key) is not None]
    return {"label_files": files_digest(dataset, keys, data_dir)} if keys else {}


def files_digest(choice: Choice, keys: Sequence[str], data_dir: Path) -> dict[str, list[str]]:
    """The SHA-256 of the files that settings name, by setting.

    Args:
        choice: the data set or method.
        keys: settings that name files, see :func:`~deepsad_pl.common.named_files.files_named`.
        data_dir: folder of the data, below which digests are cached.

    Raises:
        DeepSADError: if a file cannot be read.
    """
    found: dict[str, list[str]] = {}
    for key in keys:
        try:
            paths = files_named(choice.arguments.get(key))
            found[key] = [file_digests(path.parent, [path.name], data_dir / "cache")[0] for path in paths]
        except OSError as error:
            raise DeepSADError(f"{choice.group}.{key} cannot be read ({error}); give a readable file") from error
    return found


def equivalent_arguments(settings: Mapping[str, Any], facts: about.MethodAbout, scenario: Scenario) -> dict[str, Any]:
    """The settings of a method, or the equivalent ones of a scenario without known anomalies."""
    found = dict(settings)
    if not scenario.has_known_anomalies:
        for setting, same in facts.same_without_anomalies.items():
            if found.get(setting) in same:
                found[setting] = same[found[setting]]
    return found


def training_identity(phase: TrainingChoice, scenario: Scenario, data_dir: Path) -> dict[str, Any]:
    """The settings of a training, without those that have no effect.

    Args:
        phase: the training.
        scenario: scenario of its data.
        data_dir: folder of the data, below which digests of files are cached.

    Raises:
        DeepSADError: if a file that the method needs cannot be read.
    """
    settings = phase.settings()
    chosen = {key: value for key, value in settings.items() if key not in _NOT_THE_RESULT} | code_of(phase)
    if isinstance(phase, MethodChoice):
        facts = phase.about
        chosen = equivalent_arguments(chosen, facts, scenario)
        for setting, unused in facts.unused.items():
            for key in unused.get(chosen.get(setting, settings.get(setting)), ()):
                chosen.pop(key, None)
        if (folds := holdout_folds(phase, scenario)) is not None:
            chosen["holdout_folds"] = folds
        if facts.files:
            chosen = {key: value for key, value in chosen.items() if key not in facts.files}
            chosen["files"] = files_digest(phase, facts.files, data_dir)
        chosen.pop(_SEES, None)
        # Without labels, it does not matter whether the method sees them.
        if scenario.has_known_anomalies and phase.hides_labeled_anomalies:
            chosen[_SEES] = False
        if not scenario.has_known_anomalies:
            for key in facts.unused_without_labels if not scenario.gamma_n else ():
                chosen.pop(key, None)
    elif not scenario.has_known_anomalies:
        chosen.pop("data", None)
    if "lr" in settings and "epochs" in settings:
        chosen["schedule"] = _merged(chosen.pop("lr"), chosen.pop("epochs"))
    return chosen


def _merged(lr: Sequence[float], epochs: Sequence[int]) -> list[list[float]]:
    """The schedule without empty phases, with adjacent phases of equal learning rate merged."""
    schedule: list[list[float]] = []
    for rate, length in zip(lr, epochs, strict=True):
        if schedule and schedule[-1][0] == rate:
            schedule[-1][1] += length
        elif length:
            schedule.append([rate, length])
    return schedule
