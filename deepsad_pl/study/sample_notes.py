"""Say in a report that its experiments are a sample of the study's."""

from collections.abc import Hashable, Mapping, Sequence

from deepsad_pl.study.grid import Place, Study

_OF_CLASSES, _WITH_SEEDS = "a normal and a known class", "a normal class and a seed"


def sample_notes(asked: Sequence[tuple[Study, Sequence[Place]]]) -> list[str]:
    """Write a sentence for each sample in a report; none if nothing was sampled.

    A sample that a later command has enlarged or completed is left out: with the same seed, the larger one contains it.

    Args:
        asked: the studies of the report, as narrowed by each command, with their places.
    """
    found: dict[tuple[int, int, str], dict[str, int]] = {}
    for study, places in asked:
        if study.sample is not None:
            kind = _WITH_SEEDS if study.anomaly_classes is None else _OF_CLASSES
            more = {_key(place) for other, held in asked if _is_larger(other, study) for place in held}
            told_of = {place.experiment.dataset for place in places if _key(place) not in more}
            of = {place.experiment.dataset: place.pairs for place in places if place.pairs is not None}
            kept = {dataset: pairs for dataset, pairs in of.items() if dataset in told_of}
            if kept:
                found.setdefault((study.sample, study.sample_seed, kind), {}).update(kept)
    told = [_sentence(*key, of) for key, of in found.items()]
    if told and any(study.sample is None for study, _ in asked):
        told.append("Other experiments of the table were run without a sample.")
    return told


def _is_larger(other: Study, study: Study) -> bool:
    return other.sample is None or (study.sample is not None and other.sample > study.sample)


def _key(place: Place) -> tuple[Hashable, ...]:
    """The experiment of a cell; how it was drawn is no part of it."""
    of_cell = place.experiment.dataset, place.column, place.variant, place.row
    return *of_cell, place.normal_class, place.anomaly_class, place.seed


def _sentence(size: int, seed: int, kind: str, of: Mapping[str, int]) -> str:
    datasets: dict[int, list[str]] = {}
    for dataset, pairs in of.items():
        datasets.setdefault(pairs, []).append(dataset)
    numbers = [f"{size} of {pairs} pairs" for pairs in datasets]
    if len(datasets) > 1:
        numbers = [f"{text} ({', '.join(names)})" for text, names in zip(numbers, datasets.values(), strict=True)]
    told = f"A sample of the study: {', '.join(numbers)} of {kind}, drawn by study.sample_seed={seed}"
    once = "a method that does not see labels is run once for each normal class among them"
    return f"{told}; {once}." if kind == _OF_CLASSES else f"{told}."
