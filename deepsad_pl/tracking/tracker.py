"""What every tracker does."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt


@runtime_checkable
class Tracker(Protocol):
    """What every tracker does."""

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Take the loss of each step of an epoch."""

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Take the outcome on the test set."""

    def finish(self, failed: bool) -> None:
        """Close; nothing comes after it."""


class NoTracker:
    """Reports nowhere."""

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Nothing."""

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Nothing."""

    def finish(self, failed: bool) -> None:
        """Nothing."""
