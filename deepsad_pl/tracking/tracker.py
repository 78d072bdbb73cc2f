"""The interface of trackers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt


@runtime_checkable
class Tracker(Protocol):
    """The interface of trackers."""

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Report the loss of each step of an epoch."""

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Report the outcome on the test set."""

    def finish(self, failed: bool) -> None:
        """Close the tracker; nothing is reported afterwards."""


class NoTracker:
    """Reports nowhere."""

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Do nothing."""

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Do nothing."""

    def finish(self, failed: bool) -> None:
        """Do nothing."""
