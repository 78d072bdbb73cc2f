"""The entry points of the commands: they handle signals before the imports that take long."""

from deepsad_pl.common.signals import exit_at_once_on_signals


def train() -> None:
    """Entry point of ``python train.py`` and ``deepsad-train``."""
    exit_at_once_on_signals()
    from deepsad_pl.commands import main

    main.train()


def sweep() -> None:
    """Entry point of ``python sweep.py`` and ``deepsad-sweep``."""
    exit_at_once_on_signals()
    from deepsad_pl.commands import main

    main.sweep()


def score() -> None:
    """Entry point of ``python score.py`` and ``deepsad-score``."""
    exit_at_once_on_signals()
    from deepsad_pl.commands import score as command

    command.score()


def export() -> None:
    """Entry point of ``python export.py`` and ``deepsad-export``."""
    exit_at_once_on_signals()
    from deepsad_pl.commands import export as command

    command.export()


def report() -> None:
    """Entry point of ``python report.py`` and ``deepsad-report``."""
    exit_at_once_on_signals()
    from deepsad_pl.commands import report as command

    command.report()
