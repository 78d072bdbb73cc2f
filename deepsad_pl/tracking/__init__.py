"""Where losses and results are reported: Weights & Biases, CSV files and loggers from outside."""

from deepsad_pl.tracking.tracker import Tracker
from deepsad_pl.tracking.trackers import CSVTracker

__all__ = ["CSVTracker", "Tracker"]
