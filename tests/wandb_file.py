"""A small reader of W&B's offline run file, which is a log in LevelDB's format of protobuf records."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_FILE_HEADER = 7
_BLOCK = 32 * 1024
_RECORD_HEADER = struct.Struct("<IHB")  # crc, length, type
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """The contents of a run file.

    Attributes:
        ids: the id of every run record; one run is one id.
        sweeps: the sweeps that the run belongs to.
        config: the run's config.
        history: one dictionary for each logged row.
        summary: the last value of every key.
        exit_codes: one for each time that the run was closed.
    """

    ids: set[str] = field(default_factory=set)
    sweeps: set[str] = field(default_factory=set)
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_codes: list[int] = field(default_factory=list)


def payloads(data: bytes) -> Iterator[bytes]:
    """The payload of every record; fragments are joined, and an incomplete record is left out."""
    position, parts = _FILE_HEADER, b""
    while position + _RECORD_HEADER.size <= len(data):
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _RECORD_HEADER.size:
            position += left_in_block
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(data, position)
        position += _RECORD_HEADER.size
        if position + length > len(data):
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise ValueError(f"{kind} at byte {position} is no type of a record")
        parts += data[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def read(path: Path, *, timeout: float = 20.0) -> OfflineRun:
    """Read one ``run-*.wandb``.

    W&B's service writes it in a separate process, a little after ``finish`` returns: a run that is not closed yet is
    read again until it is, or until the time limit.
    """
    end = time.monotonic() + timeout
    while not (run := _read_once(path)).exit_codes and time.monotonic() < end:
        time.sleep(0.02)
    return run


def _read_once(path: Path) -> OfflineRun:
    run = OfflineRun()
    for payload in payloads(path.read_bytes()):
        record = pb.Record()
        record.ParseFromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.ids.add(record.run.run_id)
            run.sweeps |= {record.run.sweep_id} - {""}
            run.project, run.group, run.job_type = record.run.project, record.run.run_group, record.run.job_type
            run.tags = list(record.run.tags)
            run.config |= _values(record.run.config.update)
        elif kind == "config":
            run.config |= _values(record.config.update)
        elif kind == "history":
            run.history.append(_values(record.history.item))
            run.summary |= run.history[-1]
        elif kind == "summary":
            run.summary |= _values(record.summary.update)
        elif kind == "exit":
            run.exit_codes.append(record.exit.exit_code)
    return run


def run_files(run_dir: Path) -> list[Path]:
    """The run files in a run folder, oldest first."""
    return sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
