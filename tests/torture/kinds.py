"""The kinds of trials, in the order of the table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torture import (
    concurrency,
    drawn_settings,
    file_events,
    flips,
    full_disks,
    hostile_files,
    kills,
    odd_inputs,
    ranks,
)
from torture.trial import Bench, Outcome
from torture.workloads import References


@dataclass(frozen=True)
class Kind:
    """A kind of trial.

    Attributes:
        what: what is tried.
        trial: tries it once.
        share: of the time, relative to the others.
    """

    what: str
    trial: Callable[[Bench, References], Outcome]
    share: float = 1.0


KINDS: Mapping[str, Kind] = {
    "kills": Kind(kills.WHAT, kills.trial, 1.5),
    "file events": Kind(file_events.WHAT, file_events.trial, 2.0),
    "flips": Kind(flips.WHAT, flips.trial, 1.5),
    "full disks": Kind(full_disks.WHAT, full_disks.trial, 1.5),
    "concurrency": Kind(concurrency.WHAT, concurrency.trial, 0.7),
    "ranks": Kind(ranks.WHAT, ranks.trial, 1.5),
    "settings": Kind(drawn_settings.WHAT, drawn_settings.trial, 1.0),
    "odd inputs": Kind(odd_inputs.WHAT, odd_inputs.trial, 1.0),
    "hostile files": Kind(hostile_files.WHAT, hostile_files.trial, 0.7),
}
