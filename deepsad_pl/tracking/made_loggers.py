"""Use loggers named by ``_target_``, such as Lightning's, as trackers of an experiment."""

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
    """The interface of Lightning's loggers."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log the configuration."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log the metrics of one step."""

    def save(self) -> None:
        """Write what is still buffered."""

    def finalize(self, status: str) -> None:
        """Close with the status ``success`` or ``failed``."""


class LoggerTracker:
    """Reports to a Lightning logger: the configuration, the mean loss of each epoch and the test metrics.

    Args:
        logger: receives the reports.
        config: the whole configuration, nested.
        first_steps: the step of the whole run at which each phase begins, so that a resumed run goes on counting.
    """

    def __init__(self, logger: Logger, *, config: Mapping[str, Any], first_steps: Mapping[str, int]) -> None:
        self._logger, self._config, self._first_steps = logger, config, first_steps
        self._step, self._begun = max(first_steps.values(), default=0), False

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Log the mean loss at the epoch's last step, and save at once because the process may be killed."""
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
        """Return the logger; the first call logs the configuration, so that an error there costs only the reports."""
        if not self._begun:
            self._begun = True
            self._logger.log_hyperparams(dict(self._config))
        return self._logger


def tracker_of(
    node: Mapping[str, Any], key: str, run_dir: Path, *, config: Mapping[str, Any], first_steps: Mapping[str, int]
) -> "Tracker":
    """Instantiate a node as a tracker; a Lightning logger is wrapped in a :class:`LoggerTracker`.

    Args:
        node: ``_target_`` and its arguments; ``save_dir`` and ``run_dir`` default to the run folder.
        key: the node's key in the configuration, for messages.
        run_dir: the run folder.
        config: the whole configuration, nested.
        first_steps: the step of the whole run at which each phase begins.

    Raises:
        DeepSADError: if it cannot be created, or is neither a Lightning logger nor a tracker.
    """
    from deepsad_pl.tracking.tracker import Tracker

    # Only the first rank creates loggers, but Lightning gives every SLURM task except the first a rank above 0.
    setattr(rank_zero_only, "rank", 0)  # noqa: B010
    made = instantiate({**_run_folder(node["_target_"], run_dir), **node}, key)
    if isinstance(made, Tracker):
        return made
    if isinstance(made, CSVLogger):
        _keep_rows(Path(made.log_dir))
    if not isinstance(made, Logger):
        raise DeepSADError(
            f"{key}._target_ is {node['_target_']}, which creates a {type(made).__name__}; use a class derived from "
            "Lightning's Logger"
        )
    return LoggerTracker(made, config=config, first_steps=first_steps)


def _run_folder(target: str, run_dir: Path) -> dict[str, str]:
    """The run folder, as each argument by which a target accepts it."""
    try:
        takes = inspect.signature(get_object(target)).parameters
    except (ImportError, TypeError, ValueError):  # instantiate reports it
        return {}
    return {name: str(run_dir) for name in RUN_FOLDER if name in takes}


def _keep_rows(folder: Path) -> None:
    """Keep the rows of an earlier start, which Lightning's CSVLogger would delete if its version is fixed."""
    rows = folder / "metrics.csv"
    if rows.is_file():
        rows.rename(next(path for n in count(1) if not (path := folder / f"metrics.{n}.csv").exists()))
