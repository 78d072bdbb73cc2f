"""The command-line options that all benchmarks share."""

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
    """The options that all benchmarks share.

    Attributes:
        command: command line that repeats the benchmark from the top of a checkout.
        repeats: number of rounds that count.
        device: "cpu" or "cuda".
        quick: whether to use tiny sizes; they show that the benchmark works, but the figures mean nothing.
        out: folder of the JSON file; None: ``benchmarks/results``.
        load: load average of the machine over the minute before the start; it shows what else was running.
    """

    command: str
    repeats: int
    device: str
    quick: bool
    out: Path | None
    load: float


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the shared options; a benchmark may add its own.

    Args:
        name: name of the module in ``benchmarks``.
        description: text whose first paragraph is shown, such as the module's docstring.
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
    """Parse the command line, and set the number of threads of torch, BLAS and OpenMP accordingly.

    Args:
        parser: a parser made by :func:`parser`.
        arguments: arguments without the program's name; None: those of this process.

    Returns:
        The shared options, and all parsed arguments.
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
