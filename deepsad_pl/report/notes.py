"""The notes beneath a table: what a reader must know about it."""

import math
from collections.abc import Sequence

import pandas as pd

from deepsad_pl.common.counting import are, counted
from deepsad_pl.common.records import APART
from deepsad_pl.report.cells import BEST_VARIANT, DDOF, LEARNING_RATE, SELECTION, SETTING, Cell, Ranking
from deepsad_pl.report.columns import heading, value_text
from deepsad_pl.report.layout import VERDICT_MARKS, has_another_n, units
from deepsad_pl.report.measure import AUROC
from deepsad_pl.report.significance import ALPHA, NORMAL_CLASS, SEED
from deepsad_pl.report.standard_error import ABOVE, BELOW, IN_REACH
from deepsad_pl.settings.about import own_columns

# What known and novel mean, for a reader of the table.
KNOWN_NOVEL = (
    "Known anomalies are of the classes of which some are labeled in training, novel ones of all others; each against "
    "all normal test samples.",
    "Every cell of a data set covers the same normal and known classes, those that all of its cells and their variants "
    "were run with (if there are any); an experiment without labels counts once for each of these known classes.",
)

# Where a table that accompanies the main one has the mark.
INFORMED = "† test-informed, so possibly optimistic: the notes beneath the main table say by which choices."

_PROTOCOLS = {
    "test_subset": "were selected on 10 % of the test set (nu on all of it): the paper's protocol, which looks at test "
    "labels",
    "holdout": "were selected on held-out training data",
    "none": "have their default values",
    "cross_validation": "were selected by cross-validation on the training data",
}


def notes_of(
    cells: Sequence[Cell],
    rankings: Sequence[Ranking],
    axes: Sequence[str],
    *,
    run_with: str = "",
    paper_left_out: bool = False,
    paper_has_another: bool = False,
    first: Sequence[str] = (),
    best: str = "bold",
) -> list[str]:
    """Write the notes beneath the table.

    Args:
        cells: cells of the table.
        rankings: rankings of the table's rows.
        axes: names of the axes.
        run_with: settings of the experiments that differ from the study's own.
        paper_left_out: whether the paper's results are not shown because of these settings.
        paper_has_another: whether they are not shown because they are AUROCs, and the table has another metric.
        first: notes that come before all others.
        best: how the best of a row is marked.
    """
    measure = cells[0].measure if cells else AUROC
    notes = list(first)
    if run_with:
        consequence = ", so the paper's figures are left out" if paper_left_out else ""
        notes.append(f"The experiments were run with {run_with}, unlike the study's own settings{consequence}.")
    shown = f"{measure.label} in percent" if measure.in_percent else measure.label
    notes.append(
        f"{shown[0].upper()}{shown[1:]}: mean ± standard deviation (ddof {DDOF}) over n experiments; the best of each "
        f"row is {best}{'' if measure.in_percent else ', where more is better'}."
    )
    if measure.name in APART:
        notes += list(KNOWN_NOVEL)
    if paper_has_another:
        notes.append("The paper reports AUROC only, so none of its figures are shown.")
    if any(cell.paper for cell in cells):
        other = any(map(has_another_n, cells))
        counted = "; n also shows their number of experiments where it differs from ours" if other else ""
        notes.append(f"In brackets: the paper's figures, whose ddof is not stated{counted}.")
    notes += [*_uneven(cells, axes), *_errors(cells), *_tested(rankings), *_out_of_reach(rankings, axes)]
    incomplete = [cell for cell in cells if cell.n < cell.expected]
    if incomplete:
        notes.append(
            f"{len(incomplete)} of {len(cells)} cells {are(len(incomplete))} incomplete: n shows how many experiments "
            "are finished."
        )
    return [
        *notes,
        *_test_informed(cells),
        *_variants(cells, axes),
        *_unfinished(cells),
        *_borrowed(cells),
        *_protocols(cells),
    ]


def _uneven(cells: Sequence[Cell], axes: Sequence[str]) -> list[str]:
    """Say how the best of a row is decided where its cells have different experiments."""
    rows: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.dataset, *cell.row.values()), []).append(cell)
    uneven: list[Cell] = []
    apart: list[Cell] = []
    for row in rows.values():
        there = {cell.column for cell in row}
        competing = [cell for cell in row if cell.n and cell.borrowed not in there]
        highest = max(competing, key=lambda cell: cell.mean, default=None)
        by_weight = highest is not None and not highest.best
        if not _are_alike([cell.experiments for cell in competing]) or by_weight:
            (uneven if any(cell.best for cell in competing) else apart).append(row[0])
    told, among = [], [row[0] for row in rows.values()]
    if uneven:
        told.append(
            f"In {_places(uneven, among, axes)}, the cells of a row cover different "
            "experiments: the best is decided over those that all of them have, where a method that sees no labels "
            "counts once for each known class; the test is over those that the two best have."
        )
    if apart:
        told.append(
            f"In {_places(apart, among, axes)}, no experiment is common to all cells of a row, so none is called the "
            "best."
        )
    return told


def _are_alike(cells: Sequence[pd.DataFrame]) -> bool:
    """Whether cells have the same normal and known classes and seeds, as far as they depend on known classes."""
    own = [set(cell[["normal_class", "seed", "anomaly_class"]].fillna("").itertuples(index=False)) for cell in cells]
    of_known = [found for cell, found in zip(cells, own, strict=True) if cell["anomaly_class"].notna().any()]
    without = [{key[:2] for key in found} for found in own]
    return all(found == of_known[0] for found in of_known) and all(found == without[0] for found in without)


def _errors(cells: Sequence[Cell]) -> list[str]:
    """Explain the standard errors and the marks of the verdicts."""
    with_error = [cell for cell in cells if not math.isnan(cell.error)]
    if not with_error:
        return []
    formula = f"standard deviation / √n{_correction(with_error)}"
    notes = [f"SE is the standard error of the mean, {formula}; a cell with unfinished experiments has none."]
    if any(cell.pairs < cell.n for cell in with_error):
        notes.append(
            "Where a pair of a normal and a known class (without labels, a normal class) has several seeds, they are "
            "averaged first: SE is over pairs, not over experiments."
        )
    if any(cell.verdict for cell in cells):
        same, below, above = (VERDICT_MARKS[found] for found in (IN_REACH, BELOW, ABOVE))
        notes.append(
            f"{same} the paper's mean is within two standard errors of ours; {below} ours is below it, or {above} "
            "above it, by more."
        )
    return notes


def _correction(cells: Sequence[Cell]) -> str:
    """What is said about the finite population; empty if no cell is corrected."""
    of = sorted({cell.population for cell in cells if cell.population is not None and cell.population > cell.pairs})
    return f" · √(1 - n/N) for a sample of N = {' or '.join(map(str, of))}" if of else ""


def _tested(rankings: Sequence[Ranking]) -> list[str]:
    """Explain the star."""
    tests = [ranking.comparison for ranking in rankings if ranking.comparison is not None]
    if not tests:
        return []
    over = "normal classes, each with its mean over known classes and seeds"
    if any(test.unit == SEED for test in tests):
        by_class = any(test.unit == NORMAL_CLASS for test in tests)
        over = f"{over}, or over seeds where there is one normal class" if by_class else "seeds"
    adjusted = f", adjusted by Holm's method for the {len(tests)} comparisons of this table" if len(tests) > 1 else ""
    notes = [
        f"* the best is better than the second best of its row: two-sided Wilcoxon signed-rank test over {over}, "
        f"p < .05{adjusted}."
    ]
    if any(len(test.best) != test.n for test in tests):
        notes.append(
            "p_paper in tests.csv is over all pairs of experiments, as in the paper; these are not independent, so no "
            "star depends on it."
        )
    return notes


def _out_of_reach(rankings: Sequence[Ranking], axes: Sequence[str]) -> list[str]:
    """Name the rows with too few units to ever get a star."""
    groups: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        if ranking.comparison is not None and ranking.lowest >= ALPHA:
            groups.setdefault(units(ranking.comparison), []).append(ranking)
    if not groups:
        return []
    told = "; ".join(f"{_places(held, rankings, axes)} ({number})" for number, held in groups.items())
    return [f"Too few normal classes or seeds for any difference to reach p < .05: {told}."]


def _test_informed(cells: Sequence[Cell]) -> list[str]:
    """Explain the † mark, and for which choices the marked cells used test labels."""
    marked = [cell for cell in cells if cell.test_informed and cell.n]
    if not marked:
        return []

    def those(reason: str) -> list[Cell]:
        return [cell for cell in marked if reason in cell.test_informed]

    told = []
    if best := those(BEST_VARIANT):
        told.append(f"{_columns(best)} shows the variant with the best test {best[0].measure.label}")
    if selected := those(SELECTION):
        told.append(f"the hyper-parameters of {_columns(selected)} were selected with test labels")
    if rated := those(LEARNING_RATE):
        datasets = ", ".join(dict.fromkeys(cell.dataset for cell in rated))
        told.append(
            f"the default learning rates of {datasets} (in {_columns(rated)}) were chosen by AUROC on test data; "
            "those of recipe=paper were not"
        )
    if chosen := those(SETTING):
        told.append(f"a default setting of {_columns(chosen)} was chosen knowing AUROC on test data")
    return [f"† test-informed, so possibly optimistic: {'; '.join(told)}."]


def _columns(cells: Sequence[Cell]) -> str:
    return ", ".join(dict.fromkeys(heading(cell.column) for cell in cells))


def _variants(cells: Sequence[Cell], axes: Sequence[str]) -> list[str]:
    notes = []
    for column in dict.fromkeys(cell.column for cell in cells):
        # Another note covers borrowed cells.
        own = [cell for cell in cells if cell.column == column and not cell.borrowed and cell.n]
        run = dict.fromkeys(name for cell in own for name, (finished, _) in cell.tried.items() if finished)
        chosen = list(dict.fromkeys(cell.variant for cell in own))
        if len(run) > 1:
            shown = {variant: [cell for cell in own if cell.variant == variant] for variant in chosen}
            where = [f"{variant} in {_places(held, own, axes)}" for variant, held in shown.items()]
            told = "; ".join(where) if len(chosen) > 1 else f"{chosen[0]} in every cell"
            notes.append(f"{heading(column)} is the best of the {len(run)} variants that were run: {told}.")
        elif column in own_columns() and len(own_columns()[column].methods) > 1 and chosen:
            notes.append(f"{heading(column)} is {chosen[0]}, the only variant that was run.")
    return notes


def _places(held: Sequence[Cell | Ranking], among: Sequence[Cell | Ranking], axes: Sequence[str]) -> str:
    """Data sets, with their rows unless all are meant: ``mnist, cifar10 (gamma_l 0.01, 0.05)``."""
    places = []
    for dataset in dict.fromkeys(one.dataset for one in among):
        rows = [one for one in held if one.dataset == dataset]
        if rows and len(rows) == sum(one.dataset == dataset for one in among):
            places.append(dataset)
        elif rows:
            places.append(f"{dataset} ({_rows(rows, axes)})")
    return ", ".join(places)


def _rows(held: Sequence[Cell | Ranking], axes: Sequence[str]) -> str:
    if len(axes) == 1:
        return f"{axes[0]} {', '.join(value_text(one.row[axes[0]]) for one in held)}"
    return "; ".join(" ".join(f"{axis} {value_text(value)}" for axis, value in one.row.items()) for one in held)


def _unfinished(cells: Sequence[Cell]) -> list[str]:
    """Name unfinished variants that are not shown but could still turn out to be the best."""
    missing: dict[tuple[str, str], int] = {}
    for cell in cells:
        for variant, (finished, expected) in cell.tried.items():
            if variant != cell.variant and finished < expected:
                key = heading(cell.column), variant
                missing[key] = missing.get(key, 0) + 1
    return [
        f"{name} may change: in {counted(many, 'cell')} its variant {variant} is not finished."
        for (name, variant), many in missing.items()
    ]


def _borrowed(cells: Sequence[Cell]) -> list[str]:
    pairs = dict.fromkeys((cell.column, cell.borrowed) for cell in cells if cell.borrowed)
    return [f"Without labels {heading(column)} is {heading(str(lender))}." for column, lender in pairs]


def _protocols(cells: Sequence[Cell]) -> list[str]:
    columns: dict[str, list[str]] = {}
    for cell in cells:
        if cell.protocol:
            columns.setdefault(cell.protocol, []).append(heading(cell.column))
    return [
        f"Hyper-parameters of {', '.join(dict.fromkeys(names))} {_how(protocols)}."
        for protocols, names in columns.items()
    ]


def _how(protocols: str) -> str:
    return ", or ".join(_PROTOCOLS.get(protocol, f"were selected by {protocol}") for protocol in protocols.split(", "))
