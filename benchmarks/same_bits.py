"""Check that new code gives the scores of old code, bit for bit, and continues from the old runs and caches.

Two checkouts train every method, alone and in a stack; the scores must be equal, bit for bit. Then the new code must
use the old code's finished runs and caches, and resume its half-finished runs. All differences are printed; if there
are any, the exit code is 1. If RESULTS_VERSION has risen between the two, the caches are not used, on purpose.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsad_pl.common.records import RECORD, SCORES

_ALWAYS = ("trainer=cpu", "trainer.threads=1", "logger=none")
_LAUNCHERS = {"alone": "hydra/launcher=basic", "stacked": "hydra/launcher=stacked"}
# The checkpoint that exists once the first epoch of a phase is over; this many epochs leave time to kill the run.
_CHECKPOINTS, _EPOCHS = {"pretrain": "pretrain.ckpt", "method": "last.ckpt"}, 150


def start(checkout: Path, *words: str) -> Any:
    """Start ``train.py`` of a checkout, with the Python of the checkout's own environment if there is one."""
    python = checkout / ".venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, "train.py", *words, *_ALWAYS]
    env, pipe = {**os.environ, "OMP_NUM_THREADS": "1"}, subprocess.PIPE
    return subprocess.Popen(command, cwd=checkout, env=env, text=True, stdout=pipe, stderr=pipe)


def run(checkout: Path, *words: str) -> None:
    """Run ``train.py`` of a checkout to its end.

    Raises:
        SystemExit: with its output, if it fails.
    """
    process = start(checkout, *words)
    told = "".join(process.communicate())
    if process.returncode:
        raise SystemExit(f"{checkout}: train.py {' '.join(words)} failed:\n{told}")


def _columns(path: Path) -> list[tuple[str, ...]]:
    """The columns of scores, without the class of each sample, which older code did not write."""
    with path.open(newline="", encoding="utf-8") as file:
        return [column for column in zip(*csv.reader(file), strict=True) if column[0] != "class"]


def differences(old: Path, new: Path) -> list[str]:
    """List the differences between the scores in two output folders."""
    scores = [{path.relative_to(folder): _columns(path) for path in folder.rglob(SCORES)} for folder in (old, new)]
    told = [f"{name} is in one of them only" for name in sorted(scores[0].keys() ^ scores[1].keys())]
    both = scores[0].keys() & scores[1].keys()
    told += [f"{name} differs" for name in sorted(both) if scores[0][name] != scores[1][name]]
    return told if both else [*told, "they have no scores in common"]


def rewritten(new: Path, folder: Path, pattern: str, words: Sequence[str]) -> list[str]:
    """List the files that the new code writes, new or again, in an output folder of the old code."""
    before = {(path, path.stat().st_mtime_ns) for path in folder.rglob(pattern)}
    run(new, *words, f"output_dir={folder}")
    now = {(path, path.stat().st_mtime_ns) for path in folder.rglob(pattern)}
    return [f"{path} is new" for path, _ in sorted(now - before)]


def half_finished(old: Path, new: Path, where: Path, phase: str, dataset: str) -> list[str]:
    """List what goes wrong if the new code resumes an old run that was killed after the first epoch of a phase."""
    words = [f"dataset={dataset}", "method=deep_sad", "trainer.checkpoint_seconds=0"]
    for group in _CHECKPOINTS:
        words += [f"{group}.epochs=[{_EPOCHS if group == phase else 1}]", f"{group}.lr=[1e-3]"]
    process = start(old, *words, f"output_dir={where / 'half'}")
    while process.poll() is None and not list((where / "half").rglob(_CHECKPOINTS[phase])):
        time.sleep(0.001)
    process.kill()
    process.wait()
    if list((where / "half").rglob(RECORD)):
        return ["the run was over before it could be killed"]
    for folder in ("half", "whole"):
        run(new, *words, f"output_dir={where / folder}")
    logs = [path.read_text(encoding="utf-8") for path in (where / "half").rglob("train.log")]
    told = [] if any("resumes from" in log for log in logs) else ["it was begun again"]
    return told + differences(where / "whole", where / "half")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two checkouts and return 1 if anything differs; arguments of None are those of this process."""
    made = argparse.ArgumentParser("python -m benchmarks.same_bits", description=(__doc__ or "").split("\n\n")[0])
    for name in ("--old", "--new"):
        made.add_argument(name, type=Path, required=True, metavar="CHECKOUT")
    made.add_argument("--datasets", nargs="+", default=["digits", "cardio"], metavar="NAME")
    made.add_argument("--methods", nargs="+", metavar="NAME", help="default: all of the old code")
    given = made.parse_args(arguments)
    old, new = given.old.resolve(), given.new.resolve()
    methods = given.methods or sorted(path.stem for path in (old / "conf" / "method").glob("*.yaml"))
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset in given.datasets:
            words = ["-m", f"dataset={dataset}", f"method={','.join(methods)}", "trainer.max_epochs=2"]
            for way, launcher in _LAUNCHERS.items():
                where, title = Path(folder, dataset, way), f"{dataset}, {way}"
                for name, checkout in (("old", old), ("new", new)):
                    run(checkout, *words, launcher, f"output_dir={where / name}")
                shutil.copytree(where / "old" / "cache", where / "cached" / "cache")
                found[f"{title}, scores"] = differences(where / "old", where / "new")
                found[f"{title}, finished runs"] = rewritten(new, where / "old", RECORD, [*words, launcher])
                found[f"{title}, cache"] = rewritten(new, where / "cached", "*.bin*", [*words, launcher])
                if not any(json.loads(path.read_text())["reused"] for path in (where / "cached").rglob(RECORD)):
                    found[f"{title}, cache"].append("nothing of it was used")
            for phase in _CHECKPOINTS:
                where = Path(folder, dataset, phase)
                found[f"{dataset}, half a {phase}"] = half_finished(old, new, where, phase, dataset)
    for what, told in found.items():
        print("\n  ".join([f"{what}: {'' if told else 'as it was'}".rstrip(), *told]))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
