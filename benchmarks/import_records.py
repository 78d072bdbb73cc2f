"""Write the experiments of run folders, such as those of another machine, into the CSV files of `make reproduce`.

    python -m benchmarks.import_records FOLDER... --commit e003381 --cpu "16 CPU cores" --gpu "NVIDIA H100 80GB HBM3"

Only metrics.json is read. An experiment gets into each file whose study has it, by the hash that today's plan of the
study gives; the others are counted.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import ROOT
from benchmarks.reproduce_queue import QUEUE, chosen_steps, read_queue
from benchmarks.reproduce_rows import add_rows, rows_of
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import read_json
from deepsad_pl.common.records import RECORD, read_record
from deepsad_pl.experiment.results_version import VERSION_KEY
from deepsad_pl.study.result_rows import Row, merged, row_of
from deepsad_pl.study.results import exact_auroc
from deepsad_pl.study.results_file import commit, machine_of


def records_in(folders: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folders below some folders, each with its record; what is no valid record is left out, with a warning.

    Raises:
        DeepSADError: if a record cannot be read.
    """
    for folder in folders:
        for path in sorted(folder.rglob(RECORD)):
            try:
                record = read_record(path.parent, read_json(path)["hash"])
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise DeepSADError(f"{path} cannot be read ({error}); leave it out") from error
            if record is not None:
                yield path.parent, record


def rows_in(
    folders: Sequence[Path],
    *,
    code: str | None = None,
    cpu: str | None = None,
    gpu: str | None = None,
    version: int | None = None,
) -> list[Row]:
    """The rows of the experiments below some folders; of several with the same hash, the first.

    Args:
        folders: the folders.
        code: the commit of the experiments; None: this checkout's.
        cpu: their processor in words; None: this machine's.
        gpu: their GPU in words; None: this machine's.
        version: the version of their results; None: that of each record.

    Raises:
        DeepSADError: if a record cannot be read.
    """
    found: dict[str, Row] = {}
    for run_dir, record in records_in(folders):
        if record["hash"] not in found:
            machine = machine_of(record, cpu=cpu, gpu=gpu)
            record = record if version is None else {**record, VERSION_KEY: version}
            row = row_of(record, auroc=exact_auroc(run_dir, record), commit=code or commit(), machine=machine)
            found[record["hash"]] = row
    return merged((), found.values())


def main(words: Sequence[str] | None = None) -> int:
    """Carry out a command; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.import_records", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with run folders below them")
    parser.add_argument("--commit", help="the code of the experiments (default: this checkout's commit)")
    parser.add_argument("--cpu", help="the processor of the experiments (default: this machine's)")
    parser.add_argument("--gpu", help="the GPU of the experiments (default: this machine's)")
    told = "the version of the results, where a later one changes none of these (default: the records')"
    parser.add_argument("--version", type=int, metavar="N", help=told)
    parser.add_argument("--studies", metavar="NAMES", help="names of studies or CSV files, separated by commas")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results", help="folder of the CSV files")
    parser.add_argument("--queue", type=Path, default=QUEUE, help="the steps (default: benchmarks/reproduce.yaml)")
    options = parser.parse_args(words)
    try:
        steps = chosen_steps(read_queue(options.queue), options.studies)
        rows = rows_in(options.folders, code=options.commit, cpu=options.cpu, gpu=options.gpu, version=options.version)
        used: set[str] = set()
        for name in dict.fromkeys(step.results for step in steps):
            path = options.results / f"{name}.csv"
            found = rows_of(name, steps, rows)
            used |= {row["hash"] for row in found}
            if found:
                print(f"{path}: {counted(len(found), 'experiment')}, {add_rows(path, found)} new")
    except DeepSADError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{counted(len(rows), 'experiment')}, {len(rows) - len(used)} of them in no study of the queue")
    return 0


if __name__ == "__main__":
    sys.exit(main())
