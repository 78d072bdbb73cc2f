"""The page of a run: what was run, how well it detects, and the samples that it is most wrong about."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.common.counting import classes_named, counted
from deepsad_pl.common.records import APART
from deepsad_pl.pages.bootstrap import Intervals, bootstrap_intervals
from deepsad_pl.pages.charts import Chart, Interval, Line, interval_chart, line_chart
from deepsad_pl.pages.curves import bins, curves, shares
from deepsad_pl.pages.metric_names import METRIC_NAMES
from deepsad_pl.pages.render import render
from deepsad_pl.pages.shown_samples import Group
from deepsad_pl.pages.styles import ALL, KNOWN, NORMAL, NOVEL, UNKNOWN, Style
from deepsad_pl.pages.tables import Cell, Table, number_cell
from deepsad_pl.pages.ticks import scale

Floats = npt.NDArray[np.float64]

# The most rows of the chart of anomaly classes.
_CLASSES = 30
_TRAININGS = {"pretrain": "Pre-training", "fit": "Training"}
_SECONDS = {"pretrain": "pre-training", "fit": "training", "score": "scoring"}


@dataclass(frozen=True)
class RunResults:
    """Everything that the page of a run shows, except samples.

    Attributes:
        record: content of ``metrics.json``.
        y: ground truth of the test samples, shape (n,): 0 normal, 1 anomaly, -1 not known.
        score: their anomaly scores, shape (n,).
        classes: name of each test sample's class, n texts; None if classes are not known.
        known: names of the anomaly classes that have labels in training.
        losses: mean loss of each epoch, by training (``pretrain``, ``fit``); NaN where it is not known.
        own_metrics: the user's own metrics.
        collapsed: names of the trainings in which the representation has collapsed.
        missing: what the page lacks and why, one sentence each.
    """

    record: Mapping[str, Any]
    y: npt.NDArray[np.int64]
    score: Floats
    classes: Sequence[str] | None
    known: Collection[str]
    losses: Mapping[str, Sequence[float]]
    own_metrics: Mapping[str, float] = field(default_factory=dict)
    collapsed: Collection[str] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class _Kind:
    """Test samples that are drawn in a style of their own."""

    name: str
    style: Style
    rows: npt.NDArray[np.bool_]


def run_page(results: RunResults, groups: Sequence[Group]) -> str:
    """The page of a run as HTML.

    Args:
        results: what the run has measured.
        groups: the samples to show.
    """
    record, missing = results.record, list(results.missing)
    anomalies = _anomalies(results)
    intervals = _intervals(results)
    charts = _detection_charts(results, anomalies) if intervals else []
    if intervals is None:
        missing.append("Metrics and curves: the test set has no known normal samples, or no known anomalies.")
    return render(
        "run.html",
        title=f"{record['method']} on {record['dataset']}",
        lead=_lead(record),
        headline=_headline(record, intervals),
        facts=_facts(record),
        command=record.get("command", ""),
        metrics=_metrics(results, intervals),
        resamples=intervals.resamples if intervals else 0,
        by_class=_by_class(results, intervals) if intervals else None,
        detection=[*charts, _histogram(results, anomalies)],
        threshold=_threshold(record),
        trainings=_trainings(results),
        groups=groups,
        missing=missing,
        versions=", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        hash=record["hash"],
    )


def _anomalies(results: RunResults) -> list[_Kind]:
    """The anomalies of the test set; known and novel ones separately if it has both."""
    anomaly = results.y == 1
    if results.classes is not None:
        known = anomaly & np.isin(np.asarray(results.classes, dtype=object), list(results.known))
        if known.any() and (anomaly & ~known).any():
            return [_Kind("known anomalies", KNOWN, known), _Kind("novel anomalies", NOVEL, anomaly & ~known)]
    return [_Kind("anomalies", KNOWN, anomaly)] if anomaly.any() else []


def _intervals(results: RunResults) -> Intervals | None:
    truth = results.y >= 0
    y, score = results.y[truth], results.score[truth]
    if not {0, 1} <= set(y.tolist()):
        return None
    if results.classes is None:
        return bootstrap_intervals(score, y, y, np.zeros(len(y)))
    names = np.asarray(results.classes, dtype=object)[truth]
    return bootstrap_intervals(score, y, _codes(names, y), np.isin(names, list(results.known)))


def _codes(names: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The place of each sample's class among the sorted names; normal samples have places of their own."""
    place: npt.NDArray[np.int64] = np.unique(names, return_inverse=True)[1]
    return np.where(y == 1, place, -1 - place)


def _lead(record: Mapping[str, Any]) -> str:
    scenario = record["scenario"]
    if scenario.get("given"):
        return "The labels came with the data."
    normal = scenario.get("normal_class", scenario.get("normal_classes", []))
    sentences = [f"Normal: {classes_named(normal)}."]
    if known := scenario.get("anomaly_class"):
        sentences.append(f"Known anomalies: {classes_named(known)}.")
        if novel := len({*(record.get("classes") or {})}.difference(known)):
            sentences.append(f"Novel anomalies of the test set: {counted(novel, 'other class', 'other classes')}.")
    return " ".join(sentences)


def _headline(record: Mapping[str, Any], intervals: Intervals | None) -> list[dict[str, str]]:
    """The numbers at the top of the page: name, value and interval."""
    found = []
    for name in ("auroc", "auroc_known", "auroc_novel", "average_precision"):
        if record.get(name) is not None and (name not in APART or _has_both(record)):
            interval = intervals.metrics.get(name) if intervals else None
            found.append(
                {
                    "name": METRIC_NAMES[name][0],
                    "value": f"{record[name]:.3f}",
                    "interval": f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
                }
            )
    return found


def _has_both(record: Mapping[str, Any]) -> bool:
    return all(record.get(name) is not None for name in APART)


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts = record["counts"]
    train = [
        (counts["unlabeled"], "unlabeled", "unlabeled"),
        (counts["labeled_normals"], "labeled normal", "labeled normals"),
        (counts["labeled_anomalies"], "labeled anomaly", "labeled anomalies"),
        (counts.get("exposure", 0), "anomaly of another data set", "anomalies of another data set"),
    ]
    test = [
        (counts["test_normal"], "normal", "normal"),
        (counts["test_anomalous"], "anomalous", "anomalous"),
        (counts.get("test_unknown", 0), "without truth", "without truth"),
    ]
    facts = [("Training samples", _sum(counts["train"], train))]
    if counts.get("pollution"):
        facts.append(("Pollution", f"{counted(counts['pollution'], 'unlabeled sample')} in truth anomalous"))
    if wrong := counts.get("wrong_anomalies", 0) + counts.get("wrong_normals", 0):
        facts.append(("Wrong labels", str(wrong)))
    if counts.get("calibration"):
        facts.append(("Calibration samples", f"{counts['calibration']:,}"))
    facts.append(("Test samples", _sum(counts["test"], test)))
    spent = record["seconds"]
    facts.append(("Seconds", ", ".join(f"{_SECONDS.get(name, name)} {value:.1f}" for name, value in spent.items())))
    epochs = {name: count for name, count in record.get("epochs", {}).items() if count}
    if epochs:
        facts.append(("Epochs", ", ".join(f"{_SECONDS.get(name, name)} {count}" for name, count in epochs.items())))
    if "trainer" in record:
        trainer = record["trainer"]
        facts.append(("Computed on", f"{trainer['device']}, {counted(trainer['threads'], 'thread')}"))
    if selection := record.get("selection"):
        chosen = [f"{key} {selection[key]:.4g}" for key in ("gamma", "nu", "bandwidth") if key in selection]
        if chosen:
            facts.append(("Selected", f"{', '.join(chosen)} by {selection.get('protocol')}"))
    return [*facts, ("Seed", str(record["seed"]))]


def _sum(total: int, parts: Sequence[tuple[int, str, str]]) -> str:
    return f"{total:,}: {', '.join(counted(*part) for part in parts if part[0])}"


def _metrics(results: RunResults, intervals: Intervals | None) -> Table:
    rows = []
    for name, (called, about) in METRIC_NAMES.items():
        if (value := results.record.get(name)) is None or name in results.own_metrics:
            continue
        if name in APART and not _has_both(results.record):
            continue
        low, high = (intervals.metrics.get(name) if intervals else None) or (None, None)
        rows.append([Cell(called), *map(number_cell, (value, low, high)), Cell(about)])
    for name, value in results.own_metrics.items():
        rows.append(
            [Cell(name), number_cell(value, ".4g"), number_cell(None), number_cell(None), Cell("your own metric")]
        )
    return Table(
        "Metrics of the test set", ["metric", "value", "from", "to", "what it says"], rows, frozenset({1, 2, 3})
    )


def _by_class(results: RunResults, intervals: Intervals) -> Chart | None:
    """The AUROC of each anomaly class with its interval; None if there are fewer than two classes."""
    found = results.record.get("classes") or {}
    if results.classes is None or len(found) < 2:
        return None
    truth = results.y >= 0
    names = np.asarray(results.classes, dtype=object)[truth]
    label_of = dict(zip(names.tolist(), _codes(names, results.y[truth]).tolist(), strict=True))
    rows = []
    for name, one in sorted(found.items(), key=lambda item: item[1]["auroc"]):
        low, high = intervals.classes.get(label_of.get(name, -1), (math.nan, math.nan))
        if math.isnan(low):
            return None
        style, kind = (KNOWN, "known") if name in results.known else (NOVEL, "novel")
        tip = f"{name} ({kind}): {one['auroc']:.4f} ({low:.4f} to {high:.4f}), {counted(one['test'], 'sample')}"
        rows.append(Interval(name, style, one["auroc"], low, high, tip))
    shown = rows[:_CLASSES]
    lowest = min(row.low for row in shown)
    legend: list[tuple[Style, str]] = [(KNOWN, "known in training"), (NOVEL, "novel")]
    styles = {row.style for row in shown}
    title = "AUROC by anomaly class" + (f", the {_CLASSES} lowest of {len(rows)}" if len(rows) > _CLASSES else "")
    return interval_chart(
        title,
        f"AUROC of {len(shown)} classes of anomalies with intervals of 95 %, the lowest first.",
        shown,
        x=scale(math.floor(lowest * 20) / 20 if lowest < 1 else 0.95, 1.0),
        x_label="AUROC against all normal test samples",
        legend=[entry for entry in legend if entry[0] in styles],
    )


def _detection_charts(results: RunResults, anomalies: Sequence[_Kind]) -> list[Chart]:
    """The ROC and the precision-recall curve, separately for known and novel anomalies."""
    normal = results.y == 0
    kinds = list(anomalies)
    if len(kinds) > 1:
        kinds = [_Kind("all anomalies", ALL, results.y == 1), *kinds]
    roc, precision_recall = [], []
    for kind in kinds:
        rows = normal | kind.rows
        found = curves(results.score[rows], kind.rows[rows])
        at = [f"{kind.name}, scores from {threshold:.4g}: " for threshold in found.threshold]
        rates = zip(at, found.fpr, found.recall, strict=True)
        roc.append(
            Line(
                *(kind.name, kind.style, found.fpr, found.recall),
                [f"{start}false-positive rate {fpr:.3f}, recall {recall:.3f}" for start, fpr, recall in rates],
            )
        )
        rates = zip(at, found.precision, found.recall, strict=True)
        precision_recall.append(
            Line(
                *(kind.name, kind.style, found.recall, found.precision),
                [f"{start}precision {precision:.3f}, recall {recall:.3f}" for start, precision, recall in rates],
            )
        )
    marks, tips = _at_threshold(results)
    unit = scale(0.0, 1.0)
    return [
        line_chart(
            "ROC curve",
            "Recall over the false-positive rate of all thresholds.",
            roc,
            x=unit,
            y=unit,
            x_label="false-positive rate",
            y_label="recall",
            marks=[(marks[0], marks[1], tips, ALL, "filled")] if marks else [],
        ),
        line_chart(
            "Precision and recall",
            "Precision over the recall of all thresholds.",
            precision_recall,
            x=unit,
            y=scale(_start(precision_recall), 1.0),
            x_label="recall",
            y_label="precision",
            marks=[(marks[1], marks[2], tips, ALL, "filled")] if marks else [],
        ),
    ]


def _start(lines: Sequence[Line]) -> float:
    """Start of the axis of precision: 0, or higher if all values are so high that differences would be invisible."""
    lowest = min(float(np.nanmin(line.y)) for line in lines)
    return math.floor(lowest * 10) / 10 if 0.5 <= lowest < 1 else 0.0 if lowest < 1 else 0.9


def _at_threshold(results: RunResults) -> tuple[tuple[float, float, float] | None, str]:
    """False-positive rate, recall and precision at the run's threshold, with a tooltip; None without a threshold."""
    if (threshold := results.record.get("threshold")) is None:
        return None, ""
    flagged = results.score > threshold["value"]
    false, true = int((flagged & (results.y == 0)).sum()), int((flagged & (results.y == 1)).sum())
    fpr, recall = false / int((results.y == 0).sum()), true / int((results.y == 1).sum())
    precision = true / (false + true) if false + true else 1.0
    tip = f"threshold {threshold['value']:.4g}: false-positive rate {fpr:.3f}, recall {recall:.3f}"
    return (fpr, recall, precision), f"{tip}, precision {precision:.3f}"


def _histogram(results: RunResults, anomalies: Sequence[_Kind]) -> Chart:
    kinds = [_Kind("normal", NORMAL, results.y == 0), *anomalies, _Kind("truth not known", UNKNOWN, results.y < 0)]
    found, lines = bins(results.score), []
    for kind in kinds:
        if not kind.rows.any():
            continue
        of_kind = shares(results.score[kind.rows], found.edges)
        edges = list(zip(found.edges[:-1], found.edges[1:], strict=True))
        tips = [
            f"{kind.name}: {100 * share:.1f} % of {int(kind.rows.sum()):,} have a score from {low:.4g} to {high:.4g}"
            for share, (low, high) in zip(of_kind, edges, strict=True)
        ]
        # Each bin is a step with two ends; both have the bin's tooltip.
        x, y = np.repeat(found.edges, 2)[1:-1], np.repeat(100 * of_kind, 2)
        lines.append(Line(kind.name, kind.style, x, y, [tip for tip in tips for _ in range(2)], is_filled=True))
    highest = max(float(line.y.max()) for line in lines)
    threshold = results.record.get("threshold")
    inside = threshold is not None and found.edges[0] <= threshold["value"] <= found.edges[-1]
    beyond = f"; the last bin holds {counted(found.above, 'score')} above it" if found.above else ""
    return line_chart(
        "Scores by class",
        "Histogram of the anomaly scores of the test samples, in percent of the samples of each kind.",
        lines,
        x=scale(float(found.edges[0]), float(found.edges[-1]), is_log=found.is_log),
        y=scale(0.0, highest * 1.12),
        x_label=f"anomaly score{' (logarithmic)' if found.is_log else ''}{beyond}",
        y_label="% of the samples",
        rules=[(threshold["value"], "threshold")] if threshold is not None and inside else [],
    )


def _threshold(record: Mapping[str, Any]) -> str:
    """What the run's threshold is and does; empty without one."""
    if (threshold := record.get("threshold")) is None:
        return ""
    level = "alpha" if "alpha" in threshold else "fpr"
    how = f"{level} {threshold[level]:g}" if threshold.get(level) is not None else "best F1"
    test = threshold.get("test", {})
    names = {"false_alarm_rate": "false-alarm rate", "recall": "recall"}
    rates = [f"{name} {test[key]:.3f}" for key, name in names.items() if test.get(key) is not None]
    on_test = f"; on the test set: {', '.join(rates)}" if rates else ""
    samples = counted(threshold["rows"], "sample")
    return f"Scores above {threshold['value']:.6g} are anomalies ({threshold['kind']}, {how}, {samples}){on_test}."


def _trainings(results: RunResults) -> list[dict[str, Any]]:
    """For each training: its name, the chart of its losses, its spread, and whether it was reused."""
    found = []
    for key, called in _TRAININGS.items():
        losses = np.array(results.losses.get(key, ()), np.float64)
        spread = results.record.get("spread", {}).get(key)
        if not len(losses) and spread is None:
            continue
        found.append(
            {
                "name": called,
                "chart": _losses(called, losses) if np.isfinite(losses).any() else None,
                "spread": spread and {when: f"{spread[when]:.4g}" for when in ("initial", "final")},
                "change": f"{spread['final'] / spread['initial']:.3g}" if spread and spread["initial"] else "",
                "collapsed": key in results.collapsed,
                "reused": key in results.record.get("reused", {}),
            }
        )
    return found


def _losses(called: str, losses: Floats) -> Chart:
    epochs = np.arange(1, len(losses) + 1, dtype=np.float64)
    known = losses[np.isfinite(losses)]
    low, high = float(known.min()), float(known.max())
    is_log = low > 0 and high >= 10 * low
    tips = [f"epoch {epoch:.0f}: loss {loss:.4g}" for epoch, loss in zip(epochs, losses, strict=True)]
    return line_chart(
        f"Loss of the {called.lower()}",
        f"Mean loss of each of {len(losses)} epochs, from {losses[0]:.4g} to {losses[-1]:.4g}.",
        [Line("loss", ALL, epochs, losses, tips)],
        x=scale(1.0, float(max(len(losses), 2)), is_whole=True),
        y=scale(low, high, is_log=is_log) if is_log else scale(low - 0.05 * (high - low), high + 0.05 * (high - low)),
        x_label="epoch",
        y_label=f"mean loss{' (logarithmic)' if is_log else ''}",
        marks=[(1.0, float(losses[0]), tips[0], ALL, "filled")] if len(losses) == 1 else [],
    )
