"""Sort a study's command line into overrides that narrow the study and overrides for every experiment."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString

from deepsad_pl.common.counting import are
from deepsad_pl.common.errors import DeepSADError

# Settings that sweep.py has and train.py does not.
_OWN = ("study", "action", "port", "figure", "dry_run", "experiments_per_job")
NARROWING = {"dataset": "datasets", "method": "methods", "seed": "seeds"}
_BY_THE_STUDY = {"scenario.normal_class": "normal_classes", "scenario.anomaly_class": "anomaly_classes"}

# The only settings that action=forget passes to Hydra; others may no longer exist.
_OF_FORGET = ("study", "action", "port", "figure", "dry_run", "output_dir", "hydra")

_LISTS = tuple(f"study.{name}" for name in ("datasets", "methods", "seeds", "normal_classes", "anomaly_classes"))

# Settings that may depend on a study's data sets, methods and choices, which Hydra does not make.
_OF_SOME = tuple(f"{group}." for group in ("method", "pretrain", "dataset", "scenario", "threshold", "network"))

# Overrides of a study that are hidden from Hydra, which would apply them to the default method and data set.
held_back: list[str] = []


def hold_back(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off the settings that a study's methods, data sets or choices may have alone; return the rest, then these.

    Raises:
        DeepSADError: if a word sets something of a study, but none is named.
    """
    if "action=forget" in words:
        settings = [w for w in words if "=" in w and not w.startswith("-")]
        held = [w for w in settings if re.split("[.=/]", w.lstrip("+~"))[0] not in _OF_FORGET]
    else:
        held = [w for w in words if w.lstrip("+~").startswith(_OF_SOME)]
    if not any(word.lstrip("+").startswith("study=") for word in words):
        settings = [word for word in words if "=" in word or word.startswith("~")]
        if alone := [word for word in settings if word.lstrip("+~").startswith("study.")]:
            raise DeepSADError(f"{', '.join(alone)} {are(len(alone))} for a study, but none is named; add study=...")
        return words, []
    return [word for word in words if word not in held], held


@dataclass(frozen=True)
class SortedOverrides:
    """A sorted command line.

    Attributes:
        narrowed: fields of the study, as set by comma lists of train.py's settings.
        passed_on: overrides for every experiment.
    """

    narrowed: Mapping[str, Any]
    passed_on: tuple[str, ...]


def is_own(override: Override) -> bool:
    """Whether an override is for sweep.py itself."""
    return override.key_or_group.split(".")[0] in _OWN


def own_sweeps(overrides: Sequence[Override]) -> Iterator[str]:
    """Yield a message for each setting of sweep.py itself that has several values, of which Hydra would take none.

    Args:
        overrides: all overrides except Hydra's own.
    """
    for override in overrides:
        if not is_own(override) or not override.is_sweep_override():
            continue
        key, line = override.key_or_group, str(override.input_line)
        if key == "study":
            yield f"{line}: a command runs one study; choose one, and run another command for the next"
        elif key in _LISTS or key.startswith(("study.axes.", "study.variants.", "study.depends.")):
            values = ",".join(override.sweep_string_iterator()) if override.is_discrete_sweep() else "..."
            yield f"{line}: this setting is a list; write '{key}=[{values}]'"
        else:
            yield f"{line}: this setting has one value for the whole command; give one"


def sort_overrides(overrides: Sequence[Override], keys: Mapping[str, str]) -> SortedOverrides:
    """Sort the overrides of a command line.

    Args:
        overrides: all overrides except Hydra's own.
        keys: the setting that each axis of the study varies.

    Raises:
        DeepSADError: for each comma list or setting that is the study's to decide.
    """
    narrowed: dict[str, Any] = {}
    passed_on: list[str] = []
    problems: list[str] = []
    given = [override for override in overrides if not is_own(override)]
    studied = {o.key_or_group for o in overrides if is_own(o)}
    axes = {key: axis for axis, key in keys.items()}
    for override in given:
        key, line = override.key_or_group, str(override.input_line)
        if key in NARROWING:
            field = NARROWING[key]
            if f"study.{field}" in studied:
                problems.append(f"{line} and study.{field} say the same thing; leave one of them out")
            else:
                narrowed[field] = _values(override, problems)
        elif key == "experiment":
            problems.append(
                f"{line}: a preset may set what the study varies; give its settings one by one, or sweep without study="
            )
        elif key in axes:
            problems.append(
                f"{line}: {key} is what the study varies; narrow it with study.axes.{axes[key]}=[...] instead"
            )
        elif key in _BY_THE_STUDY:
            problems.append(f"{line}: a study goes through the classes; use study.{_BY_THE_STUDY[key]}=[...] instead")
        elif override.is_sweep_override():
            problems.append(
                f"{line}: a study takes comma lists of dataset, method and seed only; give one value here, narrow "
                "study.axes, or sweep without study="
            )
        else:
            passed_on.append(line)
    if problems:
        raise DeepSADError(*problems)
    return SortedOverrides(narrowed, tuple(passed_on))


def _values(override: Override, problems: list[str]) -> list[Any]:
    values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    texts = [value.text if isinstance(value, QuotedString) else str(value) for value in values]
    if override.key_or_group != "seed":
        return texts
    try:
        return [int(text) for text in texts]
    except ValueError:
        problems.append(f"{override.input_line}: a seed must be an integer")
        return []
