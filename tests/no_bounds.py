"""Imported by a forked command, lifts the bounds of its settings: a learning rate of 1e30 gives NaN."""

from deepsad_pl.common.ranges import Range

Range.__contains__ = lambda *_: True  # type: ignore[method-assign]
