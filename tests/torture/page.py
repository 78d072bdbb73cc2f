"""The table of a run, and the page docs/reliability.md around it."""

from collections.abc import Mapping
from pathlib import Path

from torture.driver import Tally
from torture.kinds import KINDS

BEGIN, END = "<!-- The last run: written by make torture. -->", "<!-- End of the last run. -->"


def table_of(tallies: Mapping[str, Tally]) -> str:
    """The counts of each kind as a Markdown table."""
    rows = ["| kind | what is tried | tried | right | refused | wrong |", "|---|---|---:|---:|---:|---:|"]
    for kind, tally in tallies.items():
        counts = (tally.tried, tally.right, tally.refused, tally.wrong)
        rows.append(f"| {kind} | {KINDS[kind].what} | {' | '.join(map(str, counts))} |")
    sums = [sum(getattr(tally, name) for tally in tallies.values()) for name in ("tried", "right", "refused", "wrong")]
    return "\n".join([*rows, f"| **all** | | {' | '.join(map(str, sums))} |"])


def write_page(path: Path, told: str, tallies: Mapping[str, Tally]) -> None:
    """Replace the part of the page between its marks.

    Args:
        path: the page.
        told: a sentence about the run.
        tallies: its counts.

    Raises:
        ValueError: if the page lacks a mark.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks the marks {BEGIN} and {END}; restore them")
    path.write_text(f"{before}{BEGIN}\n\n{told}\n\n{table_of(tallies)}\n\n{END}{after}", encoding="utf-8")
