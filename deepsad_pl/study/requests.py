"""Remember all commands about a study, so that one table can show all requested experiments."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from deepsad_pl.common.files import locked, read_json, write_atomic
from deepsad_pl.common.records import warn_once
from deepsad_pl.study.command_line import NARROWING
from deepsad_pl.study.grid import Study
from deepsad_pl.sweep.decisive import is_decisive

# Fields of a study that select some of its experiments; the other fields define the experiments.
_SELECTING = ("datasets", "methods", "axes", "normal_classes", "anomaly_classes", "seeds", "sample", "sample_seed")
_FIELDS = frozenset(field.name for field in fields(Study))
# Values that Hydra can only parse as text.
_PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w.-]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """The request of one command.

    Attributes:
        passed_on: the overrides for all experiments.
        narrowed: changed fields of the study, with plain values.
    """

    passed_on: tuple[str, ...]
    narrowed: Mapping[str, Any]

    @property
    def decisive(self) -> frozenset[str]:
        """The overrides that can change results."""
        return frozenset(filter(is_decisive, self.passed_on))

    @property
    def changed(self) -> Mapping[str, Any]:
        """The fields of the study that the command changed, except those that only select experiments."""
        return {field: value for field, value in self.narrowed.items() if field not in _SELECTING}

    def is_same(self, other: "Request") -> bool:
        """Whether two commands have the same words, in any order."""
        return sorted(self.passed_on) == sorted(other.passed_on) and self.narrowed == other.narrowed

    def __str__(self) -> str:
        """The words of the command line, quoted for a shell."""
        typed = {field: key for key, field in NARROWING.items()}
        words = [
            f"{typed[field]}={','.join(map(literal, value))}"
            if field in typed and value
            else f"study.{field}={literal(value)}"
            for field, value in self.narrowed.items()
        ]
        return shlex.join([*words, *self.passed_on])


def literal(value: Any) -> str:
    """Format a plain value for Hydra's command line; keys of mappings are names, which may contain dots."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ",".join(f"{key}:{literal(entry)}" for key, entry in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(literal, value)) + "]"
    if _PLAIN.fullmatch(str(value)):
        return str(value)
    # A backslash needs escaping only before a quote, also the closing one.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), str(value))
    return f"'{escaped}'"


class Memory:
    """The stored requests of a study, latest last.

    Args:
        folder: folder of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "requests.json"

    def all(self) -> list[Request]:
        """All stored requests; damaged ones are skipped with a warning."""
        requests, problem = self._read()
        if problem is not None:
            warn_once(f"{self._path} is damaged ({problem}): the lost commands count again once they are rerun")
        return requests

    def add(self, request: Request) -> None:
        """Store a request as the latest one."""
        with self._locked():
            self._write([*(known for known in self.all() if known != request), request])

    def remove(self, request: Request) -> None:
        """Forget a request."""
        with self._locked():
            self._write([known for known in self.all() if known != request])

    def _read(self) -> tuple[list[Request], str | None]:
        """The readable requests, and the problem with the rest, if any."""
        try:
            entries = read_json(self._path)
        except FileNotFoundError:
            return [], None
        except (OSError, ValueError) as error:
            return [], str(error)
        if not isinstance(entries, list):
            return [], "it does not hold a list"
        good = [entry for entry in entries if _is_request(entry)]
        problem = (
            None if len(good) == len(entries) else f"{len(entries) - len(good)} of {len(entries)} are not requests"
        )
        return [Request(tuple(entry["passed_on"]), entry["narrowed"]) for entry in good], problem

    def _write(self, requests: Sequence[Request]) -> None:
        if self._read()[1] is not None:
            shutil.copy(self._path, self._path.with_suffix(".json.damaged"))
        entries = [{"passed_on": list(r.passed_on), "narrowed": dict(r.narrowed)} for r in requests]
        write_atomic(self._path, json.dumps(entries, indent=2) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        busy = f"another command is writing {self._path}"
        with locked(self._path.with_suffix(".lock"), busy=busy, way_out="choose another output_dir"):
            yield


def _is_request(entry: Any) -> bool:
    if not (isinstance(entry, dict) and isinstance(entry.get("passed_on"), list)):
        return False
    narrowed = entry.get("narrowed")
    words = all(isinstance(word, str) for word in entry["passed_on"])
    return words and isinstance(narrowed, dict) and narrowed.keys() <= _FIELDS


def alike(requests: Sequence[Request], request: Request) -> list[Request]:
    """The requests whose experiments belong in the same table as the given request's, which comes last."""
    what = (request.decisive, request.changed)
    return [*(r for r in requests if (r.decisive, r.changed) == what and r != request), request]
