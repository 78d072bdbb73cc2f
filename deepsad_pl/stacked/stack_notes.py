"""What the processes of a sweep tell of the stacks that they train. No torch here."""

from contextlib import suppress
from pathlib import Path


def stacks_folder(failures: Path) -> Path:
    """Where the stacks of a study are told of.

    Args:
        failures: folder of the study's notes.
    """
    return failures.parent / "stacks"


def stacks_at_work(folder: Path) -> str:
    """The phase and the epoch of every stack that is being trained: ``fit 3/150 of 31, pretrain 9/150 of 30``."""
    told: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            told.append(path.read_text(encoding="utf-8"))
    return ", ".join(told)


def forget_stacks(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    for path in folder.glob("*.txt"):
        path.unlink(missing_ok=True)
