"""Where Hydra finds the launcher that trains experiments in stacks."""

from deepsad_pl.sweep import stacked_launcher


class StackedLauncher(stacked_launcher.StackedLauncher):
    """``hydra/launcher=stacked``."""
