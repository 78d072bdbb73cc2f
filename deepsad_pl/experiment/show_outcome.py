"""Print the outcome of a run or the table of a sweep on the console."""

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import mean, stdev
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted
from deepsad_pl.common.records import REPORT
from deepsad_pl.experiment.finished import Outcome
from deepsad_pl.settings.own_metrics import values_of

_AT_LOW_RATES = {
    "auroc_fpr_10": "AUROC FPR <= 10 %",
    "recall_fpr_1": "recall FPR <= 1 %",
    "recall_fpr_5": "recall FPR <= 5 %",
}


def show_outcome(outcome: Outcome, *, compact: bool = False) -> None:
    """Print all metrics, sample counts, seconds of each phase and the run folder.

    Args:
        outcome: outcome of the run.
        compact: whether to print a single line, as for a job of a sweep.
    """
    record = outcome.record
    if outcome.was_finished:
        console.print("this run had already finished, so nothing was trained (force=true trains it again)")
    if compact:
        apart = [f"{kind} {value:.4f}" for kind, value in _apart(record).items()]
        told = f" ({', '.join(apart)})" if apart else ""
        metrics = f"AUROC {_shown(record['auroc'])}{told}, average precision {_shown(record['average_precision'])}"
        metrics += "".join(f", {name} {value:.4g}" for name, value in values_of(record).items())
        if selected := _selected(record):
            metrics += f", selected {selected}"
        console.print(f"{metrics}, run folder: {outcome.run_dir}", soft_wrap=True, markup=False)
        return
    counts = record["counts"]
    table = Table(show_header=False, box=None)
    table.add_row("AUROC", f"[bold]{_shown(record['auroc'])}[/]")
    for kind, value in _apart(record).items():
        table.add_row(f"AUROC {kind}", f"{value:.4f}")
    table.add_row("average precision", _shown(record["average_precision"]))
    for name, what in _AT_LOW_RATES.items():
        if record.get(name) is not None:
            table.add_row(what, f"{record[name]:.4f}")
    for name, value in values_of(record).items():
        table.add_row(name, f"{value:.4g}")
    train = [
        (counts["unlabeled"], "unlabeled", "unlabeled"),
        (counts["labeled_normals"], "labeled normal", "labeled normals"),
        (counts["labeled_anomalies"], "labeled anomaly", "labeled anomalies"),
        (counts.get("exposure", 0), "anomaly of another data set", "anomalies of another data set"),
    ]
    table.add_row("training samples", _sum(counts["train"], train))
    if wrong := [counts[key] for key in ("wrong_anomalies", "wrong_normals") if key in counts]:
        table.add_row("wrong labels", str(sum(wrong)))
    test = [
        (counts["test_normal"], "normal", "normal"),
        (counts["test_anomalous"], "anomalous", "anomalous"),
        (counts.get("test_unknown", 0), "without truth", "without truth"),
    ]
    table.add_row("test samples", _sum(counts["test"], test))
    if "threshold" in record:
        table.add_row("threshold", _threshold(record["threshold"]))
        if rates := _rates(record["threshold"]):
            table.add_row("", rates)
    if selected := _selected(record):
        table.add_row("selected", selected)
    table.add_row("seconds", ", ".join(f"{name} {value:.1f}" for name, value in record["seconds"].items()))
    console.print(table)
    console.print(f"run folder: {outcome.run_dir}", soft_wrap=True, markup=False)
    if (outcome.run_dir / REPORT).exists():
        console.print(f"its page: {outcome.run_dir / REPORT}", soft_wrap=True, markup=False)


def _apart(record: Mapping[str, Any]) -> dict[str, float]:
    """The AUROC of known and of novel anomalies; empty unless the test set has both."""
    found = {kind: record.get(f"auroc_{kind}") for kind in ("known", "novel")}
    return {kind: value for kind, value in found.items() if value is not None} if None not in found.values() else {}


def _threshold(threshold: Mapping[str, Any]) -> str:
    """Value, kind and level of a threshold."""
    level = "alpha" if "alpha" in threshold else "fpr"
    how = f"{level} {threshold[level]:g}" if threshold[level] is not None else "best F1"
    return f"{threshold['value']:.6g} ({threshold['kind']}, {how}, {counted(threshold['rows'], 'sample')})"


def _rates(threshold: Mapping[str, Any]) -> str:
    """What a threshold does on the test set where the truth is known; empty if it is not."""
    names = {"false_alarm_rate": "false-alarm rate", "recall": "recall"}
    said = [f"{names[key]} {value:.4f}" for key, value in threshold.get("test", {}).items() if value is not None]
    return f"test {', '.join(said)}" if said else ""


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _selected(record: Mapping[str, Any]) -> str:
    """The hyper-parameters of a shallow method and the protocol that selected them; empty if there are none."""
    selection = record.get("selection", {})
    chosen = [f"{key} {selection[key]:.4g}" for key in ("gamma", "nu", "bandwidth") if key in selection]
    folds = f" in {selection['folds']} folds" if "folds" in selection else ""
    return f"{', '.join(chosen)} by {selection['protocol']}{folds}" if chosen else ""


def _sum(total: int, parts: Sequence[tuple[int, str, str]]) -> str:
    return f"{total}: {', '.join(counted(*part) for part in parts if part[0])}"


def show_sweep(rows: Sequence[tuple[dict[str, str], float | None]]) -> None:
    """Print the AUROC of each combination of the swept keys; mean and standard deviation if seeds were swept.

    Args:
        rows: for each job, the values of the swept keys and its AUROC (NaN if it is not known), or None if it failed.
    """
    keys = [key for key in rows[0][0] if key != "seed"]
    groups: dict[tuple[str, ...], list[float | None]] = {}
    for values, auroc in rows:
        groups.setdefault(tuple(values[key] for key in keys), []).append(auroc)
    seeds = "seed" in rows[0][0]
    # Numbers are whole on a narrow terminal, too, where the settings are broken into lines.
    table = Table(*(Column(escape(key), overflow="fold") for key in keys), Column("AUROC", no_wrap=True))
    for heading in ["std (ddof 1)", "seeds"] if seeds else []:
        table.add_column(heading)
    for group, found in groups.items():
        done = [value for value in found if value is not None]
        unknown = any(map(isnan, done))
        row = [*group, "unknown" if unknown else f"{mean(done):.4f}" if done else "failed"]
        if seeds:
            failed = len(found) - len(done)
            row += [
                f"{stdev(done):.4f}" if len(done) > 1 and not unknown else "",
                f"{len(done)}" + (f" ({failed} failed)" if failed else ""),
            ]
        table.add_row(*map(escape, row))
    console.print(table)
