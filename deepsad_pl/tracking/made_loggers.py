"""Loggers named by ``_target_``, any of Lightning's among them, as trackers of an experiment."""

import inspect
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy.typing as npt
from hydra.utils import get_object
from lightning_utilities.core.rank_zero import rank_zero_only

from deepsad_pl.common.components import instantiate
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.lightning_api import CSVLogger
from deepsad_pl.tracking.loggers import RUN_FOLDER

if TYPE_CHECKING:
    from deepsad_pl.tracking.tracker import Tracker


@runtime_checkable
class Logger(Protocol):
    """What every logger of Lightning does."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Take the configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Take numbers of one step."""

    def save(self) -> None:
        """Write what is held back."""

    def finalize(self, status: str) -> None:
        """Close as ``success`` or ``failed``."""


class LoggerTracker:
    """Reports to a logger of Lightning: the configuration, the mean loss of each epoch, the metrics on the test set.

    Args:
        logger: takes the reports.
        config: the whole configuration, nested.
        first_steps: the step of the whole run at which each phase begins, so that a resumed run goes on counting.
    """

    def __init__(self, logger: Logger, *, config: Mapping[str, Any], first_steps: Mapping[str, int]) -> None:
        self._logger, self._config, self._first_steps = logger, config, first_steps
        self._step, self._begun = max(first_steps.values(), default=0), False

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Log the mean loss at the last step of the epoch, and have it written, as the process may be killed."""
        self._step = self._first_steps[phase] + first_step + len(values) - 1
        loss = sum(values) / len(values)
        self._begun_logger().log_metrics({f"{phase}/loss": loss, f"{phase}/epoch": float(epoch)}, step=self._step)
        self._logger.save()

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Log the metrics at the last step."""
        self._begun_logger().log_metrics({f"test/{name}": value for name, value in metrics.items()}, step=self._step)

    def finish(self, failed: bool) -> None:
        """Close the logger, as failed if the experiment did."""
        self._begun_logger().finalize("failed" if failed else "success")

    def _begun_logger(self) -> Logger:
        """The logger, which has the configuration. What it raises there costs its reports only, as elsewhere."""
        if not self._begun:
            self._begun = True
            self._logger.log_hyperparams(dict(self._config))
        return self._logger


def tracker_of(
    node: Mapping[str, Any], key: str, run_dir: Path, *, config: Mapping[str, Any], first_steps: Mapping[str, int]
) -> "Tracker":
    """The tracker of a node: what it describes, or a tracker that reports to it if that is a logger of Lightning.

    Args:
        node: has ``_target_`` and its arguments; without ``save_dir`` or ``run_dir`` these are the run folder.
        key: of the node in the configuration, for messages.
        run_dir: the run folder.
        config: the whole configuration, nested.
        first_steps: the step of the whole run at which each phase begins.

    Raises:
        DeepSADError: if it cannot be made, or is neither a logger of Lightning nor a tracker.
    """
    from deepsad_pl.tracking.tracker import Tracker

    # Only the first rank makes loggers. Lightning takes any task of SLURM but the first for a further one.
    setattr(rank_zero_only, "rank", 0)  # noqa: B010
    made = instantiate({**_run_folder(node["_target_"], run_dir), **node}, key)
    if isinstance(made, Tracker):
        return made
    if isinstance(made, CSVLogger):
        _keep_rows(Path(made.log_dir))
    if not isinstance(made, Logger):
        raise DeepSADError(
            f"{key}._target_ is {node['_target_']}, which makes a {type(made).__name__}; give a class derived from "
            "Lightning's Logger"
        )
    return LoggerTracker(made, config=config, first_steps=first_steps)


def _run_folder(target: str, run_dir: Path) -> dict[str, str]:
    """The run folder under the names that a target takes it by."""
    try:
        takes = inspect.signature(get_object(target)).parameters
    except (ImportError, TypeError, ValueError):  # told by instantiate, if anything is wrong
        return {}
    return {name: str(run_dir) for name in RUN_FOLDER if name in takes}


def _keep_rows(folder: Path) -> None:
    """Save the rows of an earlier start, which Lightning's CSVLogger would delete from a folder of a fixed version."""
    rows = folder / "metrics.csv"
    if rows.is_file():
        rows.rename(next(path for n in count(1) if not (path := folder / f"metrics.{n}.csv").exists()))
