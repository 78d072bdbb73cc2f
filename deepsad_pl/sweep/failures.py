"""Notes about experiments of a study that started but did not finish."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from deepsad_pl.common.files import read_json, write_atomic
from deepsad_pl.sweep.decisive import is_decisive


class HasOverrides(Protocol):
    """The part of a job that the notes need."""

    @property
    def overrides(self) -> Sequence[str]:
        """The overrides after ``python train.py``."""


T = TypeVar("T", bound=HasOverrides)

STOPPED = "it was stopped before it was finished"


class Failures:
    """Notes about experiments that started but did not finish, one file each.

    An experiment writes its note when it starts and removes it when it finishes, so that a killed experiment has a note
    as well.

    Args:
        folder: folder of the notes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def news(self, jobs: Iterable[T], before: Mapping[str, int]) -> list[tuple[T, str | None]]:
        """Pair each job with the error noted since ``before`` (see :meth:`versions`), or with None if there is none."""
        new = {name for name, version in self.versions().items() if before.get(name) != version}
        return [(job, self.error(job.overrides) if self.name_of(job.overrides) in new else None) for job in jobs]

    def versions(self) -> dict[str, int]:
        """The modification time of each note, by the note's name."""
        found: dict[str, int] = {}
        for path in self.folder.glob("*.json"):
            # An experiment that finishes removes its note.
            with suppress(FileNotFoundError):
                found[path.name] = path.stat().st_mtime_ns
        return found

    def name_of(self, overrides: Iterable[str]) -> str:
        """The name of an experiment's note, which does not depend on where it runs."""
        lines = "\n".join(sorted(filter(is_decisive, overrides)))
        return f"{hashlib.sha256(lines.encode()).hexdigest()[:16]}.json"

    def _path(self, overrides: Iterable[str]) -> Path:
        return self.folder / self.name_of(overrides)

    def note(self, overrides: Sequence[str], error: str, traceback: str = "", *, blank: str | None = None) -> None:
        """Write a note with the error.

        Args:
            overrides: overrides of the experiment.
            error: first line of the error.
            traceback: where it was raised.
            blank: the hash of the experiment, if its data cannot have it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        note = {"error": error, "overrides": list(overrides), "traceback": traceback}
        note |= {} if blank is None else {"blank": blank}
        write_atomic(self._path(overrides), json.dumps(note, indent=2) + "\n")

    def forget(self, overrides: Sequence[str]) -> None:
        """Remove the note, if there is one."""
        self._path(overrides).unlink(missing_ok=True)

    def is_blank(self, overrides: Sequence[str], experiment: str) -> bool:
        """Whether the note says that the data cannot have the experiment.

        Args:
            overrides: overrides of the experiment.
            experiment: its hash; with other data it has another one.
        """
        try:
            note = read_json(self._path(overrides))
        except (OSError, ValueError):
            return False
        return isinstance(note, dict) and note.get("blank") == experiment

    def error(self, overrides: Sequence[str]) -> str | None:
        """The error in the note, or None if there is no note."""
        path = self._path(overrides)
        try:
            note = read_json(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"the error message is lost, since {path} is damaged ({error})"
        if not (isinstance(note, dict) and isinstance(note.get("error"), str)):
            return f"the error message is lost, since {path} is damaged (it has no error)"
        return str(note["error"])
