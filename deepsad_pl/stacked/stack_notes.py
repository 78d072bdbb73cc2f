"""Progress files of the processes that train stacks in a sweep. Does not import torch."""

from contextlib import suppress
from pathlib import Path


def stacks_folder(failures: Path) -> Path:
    """The folder of the progress files of a study's stacks.

    Args:
        failures: folder of the study's notes.
    """
    return failures.parent / "stacks"


def stacks_in_training(folder: Path) -> str:
    """Phase, epoch and size of every stack in training, such as ``fit 3/150 of 31, pretrain 9/150 of 30``."""
    told: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        # The stack has ended meanwhile, or the file is not one that it has written.
        with suppress(OSError, ValueError):
            told.append(path.read_text(encoding="utf-8"))
    return ", ".join(told)


def forget_stacks(folder: Path) -> None:
    """Remove the progress files of killed processes."""
    for path in folder.glob("*.txt"):
        path.unlink(missing_ok=True)
