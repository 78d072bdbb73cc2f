"""Entries of ``study.datasets``: a choice of ``dataset`` (``thyroid``), or one of its tables (``adbench/cardio``).

A choice has tables if it declares by ``about.entry`` the setting that says which one it is. What follows the slash is
the value of that setting: ``adbench/cardio`` is ``dataset=adbench dataset.table=cardio``, and ``table/parts.csv`` is
``dataset=table dataset.path=parts.csv``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.settings.about import of_dataset

_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")


def overrides_of(entry: str, composer: Composer) -> tuple[str, ...]:
    """The overrides of train.py that choose the data set of an entry.

    A table of a choice whose name is the same for all tables is named after its file, so that reports tell them apart.

    Args:
        entry: entry of ``study.datasets``.
        composer: composes the settings of experiments.

    Raises:
        DeepSADError: if there is no such choice, or nothing may follow it.
    """
    choice, slash, value = entry.partition("/")
    if not slash or choice not in composer.options("dataset"):
        return (f"dataset={entry}",)
    base: DictConfig = composer.base([f"dataset={choice}"]).dataset
    setting = of_dataset(OmegaConf.to_container(base)).entry  # type: ignore[arg-type]
    if setting is None or not value:
        problem = f"dataset={choice} is a single data set" if setting is None else "nothing follows the slash"
        raise DeepSADError(f"study.datasets has {entry}, but {problem}; write {_examples(composer)}")
    lines = [f"dataset={choice}", f"dataset.{setting}={quoted(value)}"]
    if not OmegaConf.is_interpolation(base, "name"):
        lines.append(f"dataset.name={quoted(_name_of(value))}")
    return tuple(lines)


def same_name_problems(names: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem for each name that several tables share, since reports tell data sets apart by their names.

    Args:
        names: ``dataset.name`` of each entry.
    """
    by_name: dict[str, list[str]] = {}
    for entry, name in names.items():
        by_name.setdefault(name, []).append(entry)
    for name, entries in by_name.items():
        if len(entries) > 1 and any("/" in entry for entry in entries):
            yield (
                f"study.datasets has {', '.join(entries)}, which are all called {name} in reports; leave all but one "
                "out, or write a YAML file with a dataset.name of its own for each"
            )


def normal_classes(dataset: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that a data set itself calls normal: those of ``dataset.normal``, else the class ``normal``.

    Args:
        dataset: settings of the data set.
        classes: names of its classes.
    """
    named = dataset.get("normal")
    if named:
        return tuple(map(str, named if isinstance(named, list | tuple) else [named]))
    return ("normal",) if "normal" in classes else ()


def _name_of(value: str) -> str:
    """A folder name for a table: that of its file, without suffixes."""
    return _NOT_IN_A_NAME.sub("_", PurePath(value).name.split(".")[0]).strip("_.-") or "table"


def _examples(composer: Composer) -> str:
    found = []
    for choice in composer.options("dataset"):
        base = composer.base([f"dataset={choice}"]).dataset
        if (setting := of_dataset(OmegaConf.to_container(base)).entry) is not None:  # type: ignore[arg-type]
            found.append(f"{choice}/<{setting}>")
    return f"a choice of dataset, or {' or '.join(found)}"
