"""Report to several trackers; if one fails, the experiment and the other trackers go on."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from deepsad_pl.tracking.tracker import Tracker

log = logging.getLogger(__name__)


class GuardedTracker:
    """Wraps a tracker: after its first failure it warns once and stops reporting, but the experiment goes on.

    Args:
        tracker: the wrapped tracker.
        name: name of its logger, for the warning.
    """

    def __init__(self, tracker: "Tracker", name: str) -> None:
        self._tracker, self._name = tracker, name
        self._failed = False

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Forward to the tracker, unless it has failed."""
        if not self._failed:
            with self._guarded():
                self._tracker.losses(phase, epoch, first_step, values)

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Forward to the tracker, unless it has failed."""
        if not self._failed:
            with self._guarded():
                self._tracker.result(metrics, y, score)

    def finish(self, failed: bool) -> None:
        """Close the tracker, as failed if it has failed itself."""
        with self._guarded():
            self._tracker.finish(failed or self._failed)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            log.debug("the tracker of %s failed", self._name, exc_info=True)
            if not self._failed:
                told = "logging with %s stops here (%s: %s); the run goes on"
                log.warning(told, self._name, type(error).__name__, error)
            self._failed = True


class GuardedTrackers:
    """Reports to several trackers in turn.

    Args:
        trackers: any number of them.
    """

    def __init__(self, trackers: Sequence[GuardedTracker]) -> None:
        self._trackers = trackers

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        """Forward to each tracker."""
        for tracker in self._trackers:
            tracker.losses(phase, epoch, first_step, values)

    def result(self, metrics: Mapping[str, float], y: npt.NDArray[Any], score: npt.NDArray[Any]) -> None:
        """Forward to each tracker."""
        for tracker in self._trackers:
            tracker.result(metrics, y, score)

    def finish(self, failed: bool) -> None:
        """Close every tracker, even if Ctrl-C interrupts the closing of an earlier one."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(tracker.finish, failed)
