"""The queue of `make reproduce`: the studies in the order of their information, and the commands that run them."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.commands import ROOT
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.study.requests import Request

QUEUE = Path(__file__).with_name("reproduce.yaml")
_KEYS = {"results", "study", "dataset", "methods", "axes", "sample", "words", "needs", "seeds"}
_LISTS = ("methods", "words", "seeds")


@dataclass(frozen=True)
class Step:
    """A part of a study that is run at once.

    Attributes:
        results: name of the CSV file and of the page, without suffix.
        study: choice of ``study``.
        dataset: choice of ``dataset``.
        methods: choices of ``method``.
        axes: the values of the study's axes.
        sample: ``study.sample``; None: all pairs of classes.
        words: further settings of all experiments of the file.
        needs: a folder of the data without which the step cannot be run; None: nothing but what is downloaded.
        seeds: the seeds with which each pair is run; none: that of the study.
    """

    results: str
    study: str
    dataset: str
    methods: tuple[str, ...]
    axes: Mapping[str, Sequence[float]]
    sample: int | None = None
    words: tuple[str, ...] = ()
    needs: str | None = None
    seeds: tuple[int, ...] = ()

    def __str__(self) -> str:
        """The step in words."""
        axes = "".join(f", {axis} {', '.join(f'{value:g}' for value in values)}" for axis, values in self.axes.items())
        seeds = f" with seeds {', '.join(map(str, self.seeds))}" if self.seeds else ""
        return f"{self.results}: {', '.join(self.methods)}{axes}, {self.sample or 'all'} pairs{seeds}"

    @property
    def chosen(self) -> list[str]:
        """The words of sweep.py that choose the step's experiments."""
        axes = [f"study.axes.{axis}=[{','.join(map(str, values))}]" for axis, values in self.axes.items()]
        sample = [f"study.sample={self.sample}"] if self.sample is not None else []
        chosen = [f"study={self.study}", f"dataset={self.dataset}", f"method={','.join(self.methods)}"]
        return [*chosen, *axes, *sample, *self.further]

    @property
    def further(self) -> list[str]:
        """The words of sweep.py that all experiments of the file share, beside the study and its data set."""
        return [*([f"seed={','.join(map(str, self.seeds))}"] if self.seeds else []), *self.words]

    @property
    def request(self) -> Request:
        """The command about the step, as a study remembers it."""
        narrowed = {"datasets": [self.dataset], "methods": [*self.methods]}
        axes = {axis: [*values] for axis, values in self.axes.items()}
        seeds = {"seeds": [*self.seeds]} if self.seeds else {}
        return Request(self.words, {**narrowed, **seeds, "axes": axes, "sample": self.sample})

    @property
    def is_at_hand(self) -> bool:
        """Whether the step's data are there, or can be downloaded."""
        return self.needs is None or (data_dir() / self.needs).is_dir()


def data_dir() -> Path:
    """The folder of the data, as train.py has it."""
    return Path(os.environ.get("DEEPSAD_DATA_DIR") or "data").expanduser().absolute()


def sweep(step: Step, results: Path, output_dir: Path, *words: str) -> list[str]:
    """The command about a step.

    Args:
        step: the step.
        results: the CSV file of its experiments.
        output_dir: folder of the runs.
        words: further words, such as the action.
    """
    own = [f"study.results={results}", f"output_dir={output_dir}", "logger=none"]
    return [sys.executable, str(ROOT / "sweep.py"), *step.chosen, *own, *words]


def read_queue(path: Path) -> list[Step]:
    """Read the steps.

    Raises:
        DeepSADError: if the file cannot be read, or an entry is not a step.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [_step(entry) for entry in entries]
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DeepSADError(f"the queue {path} cannot be read ({error}); see benchmarks/reproduce.yaml") from error


def _step(entry: Mapping[str, Any]) -> Step:
    if unknown := sorted(entry.keys() - _KEYS):
        raise ValueError(f"a step has {', '.join(unknown)}; it may have {', '.join(sorted(_KEYS))}")
    words = {key: tuple(entry[key]) for key in _LISTS if key in entry}
    return Step(**{**entry, **words})


def chosen_steps(steps: Sequence[Step], names: str | None) -> list[Step]:
    """The steps of some studies.

    Args:
        steps: all steps.
        names: names of studies or of their CSV files, separated by commas; None: all.

    Raises:
        DeepSADError: if a name is none of these.
    """
    known = {name: None for step in steps for name in (step.results, step.study)}
    wanted = [*known] if names is None else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise DeepSADError(f"there is no study {', '.join(unknown)} in the queue; choose from {', '.join(known)}")
    return [step for step in steps if {step.results, step.study}.intersection(wanted)]
