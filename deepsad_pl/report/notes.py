"""What a reader must know about a table, in sentences beneath it."""

from collections.abc import Sequence

from deepsad_pl.report.cells import DDOF, Cell, Ranking
from deepsad_pl.report.columns import heading, value_text

_PROTOCOLS = {
    "test_subset": "on 10 % of the test set (nu on all of it), which is the paper's protocol and looks at test labels",
    "holdout": "on held-out training data",
    "none": "not at all: they have their default values",
    "cross_validation": "by cross-validation on the training data",
}


# Columns of the paper's tables that are the best of several variants.
_BEST_OF = ("deep_svdd", "ss_dgm")


def notes_of(cells: Sequence[Cell], rankings: Sequence[Ranking], axes: Sequence[str]) -> list[str]:
    """The sentences.

    Args:
        cells: of the table.
        rankings: of its rows.
        axes: names of the axes.
    """
    notes = [
        f"AUROC in percent: mean ± standard deviation (ddof {DDOF}) over n experiments; the best of a row is bold."
    ]
    if any(cell.paper for cell in cells):
        notes.append("In brackets the paper's figures, whose ddof is not said.")
    if any(ranking.comparison for ranking in rankings):
        notes.append(
            "* the best differs from the second best of its row: two-sided Wilcoxon signed-rank test over paired "
            "experiments, p < .05; a method that does not depend on the known class is paired by repeating its value."
        )
    incomplete = [cell for cell in cells if cell.n < cell.expected]
    if incomplete:
        notes.append(
            f"{len(incomplete)} of {len(cells)} cells are incomplete: n says how many of how many are finished."
        )
    return [*notes, *_variants(cells, axes), *_unfinished(cells), *_borrowed(cells), *_protocols(cells)]


def _variants(cells: Sequence[Cell], axes: Sequence[str]) -> list[str]:
    notes = []
    for column in dict.fromkeys(cell.column for cell in cells):
        # Of a borrowed cell another note speaks.
        own = [cell for cell in cells if cell.column == column and not cell.borrowed and cell.n]
        run = dict.fromkeys(name for cell in own for name, (finished, _) in cell.tried.items() if finished)
        chosen = list(dict.fromkeys(cell.variant for cell in own))
        if len(run) > 1:
            where = [f"{variant} in {_places(variant, own, axes)}" for variant in chosen]
            told = "; ".join(where) if len(chosen) > 1 else f"{chosen[0]} in every cell"
            notes.append(f"{heading(column)} is the best of the {len(run)} variants that were run: {told}.")
        elif column in _BEST_OF and chosen:
            notes.append(f"{heading(column)} is {chosen[0]}, the only variant that was run.")
    return notes


def _places(variant: str, cells: Sequence[Cell], axes: Sequence[str]) -> str:
    """``mnist, cifar10 (gamma_l 0.01, 0.05)``: the data sets, and the rows where it is not all of them."""
    places = []
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        rows = [cell for cell in cells if cell.dataset == dataset]
        held = [cell for cell in rows if cell.variant == variant]
        if held and len(held) == len(rows):
            places.append(dataset)
        elif held:
            places.append(f"{dataset} ({_rows(held, axes)})")
    return ", ".join(places)


def _rows(cells: Sequence[Cell], axes: Sequence[str]) -> str:
    if len(axes) == 1:
        return f"{axes[0]} {', '.join(value_text(cell.row[axes[0]]) for cell in cells)}"
    return "; ".join(" ".join(f"{axis} {value_text(value)}" for axis, value in cell.row.items()) for cell in cells)


def _unfinished(cells: Sequence[Cell]) -> list[str]:
    """Of the variants that are not shown, where they could still be the best."""
    missing: dict[tuple[str, str], int] = {}
    for cell in cells:
        for variant, (finished, expected) in cell.tried.items():
            if variant != cell.variant and finished < expected:
                key = heading(cell.column), variant
                missing[key] = missing.get(key, 0) + 1
    return [
        f"{name} may change: in {many} cell{'s' if many > 1 else ''} its variant {variant} is not finished."
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
        f"Hyper-parameters of {', '.join(dict.fromkeys(names))} were selected {_how(protocols)}."
        for protocols, names in columns.items()
    ]


def _how(protocols: str) -> str:
    return ", or ".join(_PROTOCOLS.get(protocol, f"by {protocol}") for protocol in protocols.split(", "))
