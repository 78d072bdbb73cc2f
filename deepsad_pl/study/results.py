"""The records of a study as a tidy data frame: one row per experiment and table cell."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.metrics import auroc
from deepsad_pl.common.records import APART, CLASSES, METRICS, auroc_of, read_scores
from deepsad_pl.data import image_folder
from deepsad_pl.data.scenario import is_given, resolve_scenario
from deepsad_pl.experiment.class_metrics import known_and_novel
from deepsad_pl.experiment.from_test_labels import has_lr_from_test, has_setting_from_test
from deepsad_pl.experiment.plan import Plan, root_of
from deepsad_pl.settings.own_metrics import lacking, values_of
from deepsad_pl.study.grid import Classes, Place, Study, joined
from deepsad_pl.study.jobs import Planned
from deepsad_pl.study.result_columns import COLUMNS

# The maximum error of records in single precision.
_NOISE = 1e-6


def results_frame(
    planned: Iterable[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    study: Study,
    own_cells: Iterable[Place],
) -> pd.DataFrame:
    """Make a data frame with one row per experiment and cell.

    Args:
        planned: the requested experiments.
        records: records of the finished experiments, by run folder.
        study: the study, which defines the order; data sets that it does not list come last.
        own_cells: all cells of the study with its own classes and seeds, to which the paper's results refer.

    Returns:
        The frame with the columns :data:`COLUMNS`, one column per axis and one per user-defined metric in any record.
        Missing values of metrics are NaN. ``auroc_known`` and ``auroc_novel`` of an experiment that knows no class are
        means over the known classes that it stands for.
    """
    return result_frames(planned, records, study, own_cells)[0]


def result_frames(
    planned: Iterable[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    study: Study,
    own_cells: Iterable[Place],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make :func:`results_frame`, and a second frame with a row for each known class that an experiment stands for.

    In the second frame, an experiment that sees labeled anomalies has one row. One that does not is trained once for
    all known classes; it has a row for each known class of its cell, with its AUROC on anomalies of this class and of
    all others. If the seed draws the known classes, they are those that it draws for the methods that see labels.

    Returns:
        The two frames; the second one has the additional column ``known``, the names of the known classes, and no rows
        of experiments whose anomaly classes are not known. It lacks the column ``population``, since its rows are not
        experiments.
    """
    own_cells = list(own_cells)
    counted = Counter(map(_cell, own_cells))
    own_classes = {_cell(place): place.drawn_from for place in own_cells}
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    apart: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    metrics: dict[str, None] = {}
    planned = list(planned)
    stands_for = _stands_for(planned)
    for part in planned:
        for place in part.places:
            key = _key(place)
            if key in rows:
                continue
            plan = part.jobs[place.experiment].plan
            record = records.get(plan.run_dir)
            # A metric that was computed outside the study, or by an earlier release, may have the name of a column.
            taken = {*study.axes, *METRICS}
            own = {name: value for name, value in values_of(record or {}).items() if name not in taken}
            rows[key] = {
                "dataset": plan.dataset.name,
                "column": place.column,
                "variant": place.variant,
                **dict(zip(study.axes, place.row, strict=True)),
                "normal_class": place.normal_class,
                "anomaly_class": place.anomaly_class,
                "seed": place.seed,
                "experiment": str(plan.run_dir),
                "auroc": float("nan") if record is None else exact_auroc(plan.run_dir, record),
                "borrowed": place.borrowed,
                "protocol": None if record is None else record.get("selection", {}).get("protocol"),
                "paper_n": counted[_cell(place)],
                "population": place.population,
                "drawn_from": place.drawn_from,
                "seed_draws": place.seed_draws,
                "as_paper": own_classes.get(_cell(place)) == place.drawn_from,
                "lr_from_test": has_lr_from_test(plan),
                "setting_from_test": has_setting_from_test(plan),
                "finished": record is not None and study.metric not in lacking(plan.metrics, record),
                **{name: _value(record, name) for name in METRICS if name != "auroc"},
                **own,
            }
            apart[key] = [{**rows[key], **one} for one in by_known(stands_for.get(key), place.k_l, plan, record)]
            if key in stands_for:
                found = pd.DataFrame(apart[key], columns=list(APART))
                rows[key] |= {name: found[name].mean() for name in APART}
            metrics |= dict.fromkeys(own)
    order = [*study.datasets, *(key[0] for key in rows)]
    by_dataset = sorted(rows, key=lambda key: order.index(key[0]))
    columns = [*COLUMNS, *study.axes, *metrics]
    without = [column for column in columns if column != "population"]
    return (
        pd.DataFrame([rows[key] for key in by_dataset], columns=columns).astype({"population": "Int64"}),
        pd.DataFrame([row for key in by_dataset for row in apart[key]], columns=[*without, "known"]),
    )


def _value(record: Mapping[str, Any] | None, name: str) -> float:
    value = None if record is None else record.get(name)
    return math.nan if value is None else float(value)


def _key(place: Place) -> tuple[Any, ...]:
    return (*_cell(place), place.normal_class, place.anomaly_class, place.seed)


def _stands_for(planned: Iterable[Planned]) -> dict[tuple[Any, ...], list[Classes | None]]:
    """The known classes that each experiment without any stands for, of all requests that the report covers."""
    found: dict[tuple[Any, ...], dict[Classes | None, None]] = {}
    for part in planned:
        for place in part.places:
            if place.stands_for is not None:
                found.setdefault(_key(place), {}).update(dict.fromkeys(place.stands_for))
    return {key: list(names) for key, names in found.items()}


def by_known(
    stands_for: Iterable[Classes | None] | None, k_l: int, plan: Plan, record: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """AUROC on known and on novel anomalies, for each known class that an experiment stands for."""
    if stands_for is None:
        known = ", ".join(plan.classes[c] for c in plan.scenario.known_classes)
        if not is_given(plan.scenario):
            yield {"known": known, **{name: _value(record, name) for name in APART}}
        return
    for name in stands_for:
        try:
            names = _known_names(plan, name, k_l)
        except DeepSADError:
            # Not an experiment of the cell, such as one whose known class is also normal.
            continue
        found: Mapping[str, float | None] = dict.fromkeys(APART)
        if record is not None and CLASSES in record:
            found = known_and_novel(record[CLASSES], names, record["counts"]["test_normal"])
        values = {key: math.nan if value is None else value for key, value in found.items()}
        yield {"known": ", ".join(names), "anomaly_class": None if name is None else joined(name), **values}


def _known_names(plan: Plan, anomaly_class: Classes | None, k_l: int) -> list[str]:
    """The names of the known classes that the plan would have if its method saw labels.

    Raises:
        DeepSADError: if it could not be had.
    """
    dataset = plan.dataset.name, json.dumps(plan.dataset.arguments, sort_keys=True, default=str)
    if dataset not in _in_training:
        from_folder = plan.dataset.about.classes_from_folder
        there = image_folder.training_classes(root_of(plan.dataset.arguments)) if from_folder else plan.classes
        _in_training[dataset] = tuple(there)
    scenario = resolve_scenario(
        normal_class=[plan.classes[c] for c in plan.scenario.normal_classes],
        anomaly_class=anomaly_class,
        gamma_l=0.5,  # any ratio above 0: it does not decide which classes are known
        gamma_p=0.0,
        k_l=k_l,
        gamma_n=0.0,
        seed=plan.seed,
        classes=plan.classes,
        in_training=_in_training[dataset],
    )
    return [plan.classes[c] for c in scenario.known_classes]


_in_training: dict[tuple[str, str], tuple[str, ...]] = {}


def exact_auroc(run_dir: Path, record: Mapping[str, Any]) -> float:
    """The AUROC of a record in double precision.

    Records used to be written in single precision, where 1.0 may become .99999994, so that a tie with an exact value
    would look like a difference. An exact AUROC is a multiple of half a pair (of a normal and an anomalous sample), so
    such a value is replaced by the multiple it stands for; a value that is not near a multiple is kept. If the test set
    is so large that several multiples are possible, the AUROC is computed from the scores; if these are missing or
    belong to another run, the nearest multiple is used.

    Args:
        run_dir: run folder with the scores.
        record: the record; without the counts of the test set, its value is returned unchanged.
    """
    recorded, counts = auroc_of(record), record.get("counts", {})
    if math.isnan(recorded) or not {"test_normal", "test_anomalous"} <= counts.keys():
        return recorded
    halves = 2 * int(counts["test_normal"]) * int(counts["test_anomalous"])
    nearest = round(recorded * halves) / halves
    if 1 / halves > 2 * _NOISE:
        return nearest if abs(nearest - recorded) <= _NOISE else recorded
    if nearest == recorded:
        return nearest
    try:
        y, score = read_scores(run_dir)
        exact = auroc(score, y)
    except (OSError, ValueError):
        return nearest
    return exact if abs(exact - recorded) <= _NOISE else nearest


def _cell(place: Place) -> tuple[Any, ...]:
    return place.experiment.dataset, place.column, place.variant, place.row
