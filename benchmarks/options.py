"""The command line that all benchmarks share."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class Options:
    """What all benchmarks can be told.

    Attributes:
        command: repeats the benchmark from the top of a checkout.
        repeats: rounds that count.
        device: "cpu" or "cuda".
        quick: tiny sizes that show that it works; its figures mean nothing.
        out: folder of the JSON file; None for ``benchmarks/results``.
        load: of the machine when it began, its average over a minute: what else was running.
    """

    command: str
    repeats: int
    device: str
    quick: bool
    out: Path | None
    load: float


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the common options, to which a benchmark may add its own.

    Args:
        name: of the module in ``benchmarks``.
        description: the first paragraph of it is shown, such as a module's docstring.
    """
    made = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=(description or "").split("\n\n")[0])
    made.add_argument("--repeats", type=_positive, help="rounds that count (default: 5, with --quick 2)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run (default: cpu)")
    made.add_argument("--threads", type=_positive, help="threads of torch and of BLAS (default: what torch chooses)")
    made.add_argument("--quick", action="store_true", help="tiny sizes that show that it works; figures mean nothing")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the JSON file (default: benchmarks/results)")
    return made


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[Options, argparse.Namespace]:
    """Read the command line and let torch, BLAS and OpenMP have the threads that it grants.

    Args:
        parser: of :func:`parser`.
        arguments: without the program's name; None for those of this process.

    Returns:
        The common options, and all that was parsed.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = parser.parse_args(given)
    if parsed.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no GPU here; use --device cpu")
    threads = parsed.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    repeats = parsed.repeats or (2 if parsed.quick else 5)
    command = shlex.join([*parser.prog.split(), *given])
    return Options(command, repeats, parsed.device, parsed.quick, parsed.out, os.getloadavg()[0]), parsed


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
