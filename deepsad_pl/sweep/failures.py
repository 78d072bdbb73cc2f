"""Notes about experiments of a study that began and did not finish."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from deepsad_pl.common.files import read_json, write_atomic
from deepsad_pl.sweep.decisive import is_decisive


class HasOverrides(Protocol):
    """A job, as far as the notes must know it."""

    @property
    def overrides(self) -> Sequence[str]:
        """What follows ``python train.py``."""


T = TypeVar("T", bound=HasOverrides)

STOPPED = "it was stopped before it was finished"


class Failures:
    """Notes about experiments that began and did not finish, one file each.

    An experiment leaves a note when it begins and takes it away when it is finished, so that one that was killed is
    known as well.

    Args:
        folder: of the notes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def news(self, jobs: Iterable[T], before: Mapping[str, int]) -> list[tuple[T, str | None]]:
        """What has gone wrong with each job since the notes had these versions; None where nothing has."""
        new = {name for name, version in self.versions().items() if before.get(name) != version}
        return [(job, self.error(job.overrides) if self.name_of(job.overrides) in new else None) for job in jobs]

    def versions(self) -> dict[str, int]:
        """The name of each note, and when it was written."""
        found: dict[str, int] = {}
        for path in self.folder.glob("*.json"):
            # Whoever has finished takes his note away.
            with suppress(FileNotFoundError):
                found[path.name] = path.stat().st_mtime_ns
        return found

    def name_of(self, overrides: Iterable[str]) -> str:
        """The name of an experiment's note: the same wherever it runs."""
        lines = "\n".join(sorted(filter(is_decisive, overrides)))
        return f"{hashlib.sha256(lines.encode()).hexdigest()[:16]}.json"

    def _path(self, overrides: Iterable[str]) -> Path:
        return self.folder / self.name_of(overrides)

    def note(self, overrides: Sequence[str], error: str, traceback: str = "") -> None:
        """Keep what went wrong."""
        self.folder.mkdir(parents=True, exist_ok=True)
        note = {"error": error, "overrides": list(overrides), "traceback": traceback}
        write_atomic(self._path(overrides), json.dumps(note, indent=2) + "\n")

    def forget(self, overrides: Sequence[str]) -> None:
        """Remove the note, if there is one."""
        self._path(overrides).unlink(missing_ok=True)

    def error(self, overrides: Sequence[str]) -> str | None:
        """What went wrong, or None."""
        path = self._path(overrides)
        try:
            note = read_json(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"what went wrong is lost, since {path} is damaged ({error})"
        if not (isinstance(note, dict) and isinstance(note.get("error"), str)):
            return f"what went wrong is lost, since {path} is damaged (it has no error)"
        return str(note["error"])
