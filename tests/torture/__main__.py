"""make torture: spend some minutes on trials, print the table, and write it into docs/reliability.md.

python -m torture --minutes 20 --seed 7
python -m torture --seed 7 --only "flips:12"      one trial again
"""

import argparse
import datetime
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import processes

from deepsad_pl.common.counting import counted
from torture.driver import Workshop, torture
from torture.kinds import KINDS
from torture.page import table_of, write_page
from torture.trial import Outcome

ROOT = processes.ROOT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="after which no trial begins (default 20)")
    parser.add_argument("--seed", type=int, default=None, help="decides all trials (default: drawn, and printed)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time (default: CPU cores)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--only", default=None, help="one trial, such as flips:12")
    parser.add_argument("--evidence", type=Path, default=Path("torture_evidence"), help="folder for what went wrong")
    parser.add_argument("--page", type=Path, default=None, help="page to write the table into (default: none)")
    found = parser.parse_args()
    unknown = {*found.kinds.split(",")} - {*KINDS}
    if unknown:
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return found


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "no commit"


def main() -> int:
    """Run the trials; the exit code is 1 if any went wrong, and 130 after Ctrl-C."""
    asked = _arguments()
    seed = random.SystemRandom().randrange(10_000) if asked.seed is None else asked.seed
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    evidence = asked.evidence.resolve()
    print(f"seed {seed}; what goes wrong is kept in {evidence}", flush=True)
    with processes.fork_server(), tempfile.TemporaryDirectory(prefix="torture_") as folder:
        workshop = Workshop(seed, Path(folder) / "trials", evidence)
        if asked.only:
            kind, _, turn = asked.only.partition(":")
            outcome = workshop.try_once(kind, int(turn))
            print(f"{outcome.verdict}: {outcome.sentence}")
            return int(outcome.verdict == "wrong")

        def tell(kind: str, turn: int, outcome: Outcome, seconds: float) -> None:
            shown = outcome.sentence if outcome.verdict == "wrong" else outcome.sentence[:110]
            print(f"{outcome.verdict:8}{kind}:{turn} ({seconds:.0f} s) {shown}", flush=True)

        tallies, whole = torture(
            workshop, minutes=asked.minutes, jobs=asked.jobs, kinds=asked.kinds.split(","), tell=tell
        )
    print(table_of(tallies))
    wrong = sum(tally.wrong for tally in tallies.values())
    if wrong:
        print(f"{wrong} went wrong: see the report.txt of each in {evidence}")
    if not whole:
        return 130
    if asked.page is not None:
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        told = (
            f"{day}, {_commit()}, seed {seed}: {asked.minutes:g} minutes on {os.cpu_count()} CPU cores "
            f"({sys.platform}, Python {sys.version.split()[0]}), {counted(asked.jobs, 'trial')} at a time."
        )
        write_page(asked.page, told, tallies)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
