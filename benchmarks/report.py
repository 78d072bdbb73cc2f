"""Report the result of a benchmark: a table on the console, and a JSON file with every value and the machine."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Row
from benchmarks.options import Options
from deepsad_pl.common.files import write_atomic

RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("deepsad-pl", "torch", "pytorch-lightning", "numpy", "scikit-learn", "cvxopt")
_CPU_INFO = Path("/proc/cpuinfo")


def report(name: str, rows: Sequence[Row], *, options: Options, notes: Sequence[str] = ()) -> Path:
    """Print a table in Markdown, ratios first, and write ``<options.out>/<name>.json``.

    Args:
        name: name of the benchmark.
        rows: rows of all comparisons.
        options: options of the benchmark.
        notes: sentences printed below the table.

    Returns:
        The JSON file.
    """
    about = machine(options.device) | {"load": options.load}
    columns = list(dict.fromkeys(column for row in rows for column in row.more))
    console = Console(highlight=False)
    # In a file or a pipe the table has its full width.
    console = console if console.is_terminal else Console(highlight=False, width=300)
    table = Table("ratio", "what", "case", "median", "min ... max", *columns, "note", box=MARKDOWN)
    for row in rows:
        cells = [_shown(row.more.get(column)) for column in columns]
        table.add_row(_ratio(row), row.what, row.case, _median(row), _spread(row), *cells, row.note)
    console.print(table)
    described = f"{name}: {about['cpu']}, {about['cores']} cores, {about['threads']} threads"
    for line in (described + (f", {about['gpu']}" if about["gpu"] else ""), *notes):
        console.print(line, markup=False, soft_wrap=True)
    written = [{**asdict(row), "median": row.median} for row in rows]
    content = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": options.command,
        "repeats": options.repeats,
        "machine": about,
        "notes": list(notes),
        "rows": written,
    }
    folder = options.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_atomic(path, json.dumps(content, indent=2) + "\n")
    return path


def machine(device: str) -> dict[str, Any]:
    """Describe what the figures depend on: processor, usable cores, threads, versions, and the GPU if it is used."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else _number(row.ratio)


def _median(row: Row) -> str:
    return "not run" if row.median is None else f"{_number(row.median)} {row.unit}"


def _spread(row: Row) -> str:
    return f"{_number(min(row.values))} ... {_number(max(row.values))}" if row.values else ""


def _shown(value: float | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    digits = f"{value:.3g}"
    return f"{float(digits):,.0f}" if abs(value) >= 999.5 else digits
