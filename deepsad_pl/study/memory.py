"""What was asked of a study so far, so that one table shows all of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepsad_pl.errors import DeepSADError
from deepsad_pl.files import locked, write_atomic
from deepsad_pl.study.effect import is_decisive

# Fields of a study that say which of its experiments; the others say what these are.
_SELECTING = ("datasets", "methods", "axes", "normal_classes", "anomaly_classes", "seeds")


@dataclass(frozen=True)
class Request:
    """One command's wish.

    Attributes:
        passed_on: the overrides for all experiments.
        narrowed: what of the study it changed: fields of the configuration, plain values.
    """

    passed_on: tuple[str, ...]
    narrowed: Mapping[str, Any]

    @property
    def decisive(self) -> frozenset[str]:
        """Those of the overrides that change what comes out."""
        return frozenset(filter(is_decisive, self.passed_on))

    @property
    def changed(self) -> Mapping[str, Any]:
        """What the command made of the study beyond choosing among its experiments."""
        return {field: value for field, value in self.narrowed.items() if field not in _SELECTING}


class Memory:
    """The requests of a study, the latest last.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "requests.json"

    def all(self) -> list[Request]:
        """Every request.

        Raises:
            DeepSADError: if the file is damaged.
        """
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
            return [Request(tuple(entry["passed_on"]), entry["narrowed"]) for entry in entries]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise DeepSADError(
                f"{self._path} is damaged ({error}); remove it, and name the data sets and methods to be shown"
            ) from error

    def add(self, request: Request) -> None:
        """Remember a request as the latest one."""
        busy = f"another command writes {self._path}"
        with locked(self._path.with_suffix(".lock"), busy=busy, way_out="choose another output_dir"):
            requests = [*(known for known in self.all() if known != request), request]
            entries = [{"passed_on": list(r.passed_on), "narrowed": dict(r.narrowed)} for r in requests]
            write_atomic(self._path, json.dumps(entries, indent=2) + "\n")


def alike(requests: Sequence[Request], request: Request) -> list[Request]:
    """The requests whose experiments belong into one table with those of a request, which is the last of them."""
    what = (request.decisive, request.changed)
    return [*(r for r in requests if (r.decisive, r.changed) == what and r != request), request]
