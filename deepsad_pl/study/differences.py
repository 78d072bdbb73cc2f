"""What experiments were run with that is not a part of their study, decided by the identities of their plans."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.study.grid import Place, Study, quoted
from deepsad_pl.study.jobs import Job, Planned
from deepsad_pl.study.requests import Request
from deepsad_pl.sweep.decisive import is_decisive

# Settings that are named, but leave the experiments comparable with the paper's.
_COMPARABLE = ("recipe=paper", "trainer.precision", "method.selection", "seed")


@dataclass(frozen=True)
class Asked:
    """A command whose experiments are shown.

    Attributes:
        request: its words.
        study: the study as the command narrowed it.
        planned: its experiments.
    """

    request: Request
    study: Study
    planned: Planned


@dataclass(frozen=True)
class Differences:
    """How the experiments differ from those of the study.

    Attributes:
        settings: as on the command line; none if they do not differ.
        comparable: whether the paper's figures belong beside theirs.
    """

    settings: tuple[str, ...]
    comparable: bool


def differences_of(
    asked: Sequence[Asked], own: Study, own_cells: Iterable[Place] | None, composer: Composer
) -> Differences:
    """Compare the experiments that are shown with those that the study has by itself.

    A word counts if an experiment has another identity without it: one that repeats a default does not.

    Args:
        asked: the commands, the latest first; their decisive settings are the same.
        own: the study as its YAML has it.
        own_cells: all cells of the data sets, methods and values that are shown, with the study's own classes; None
            if one of the data sets does not have these classes.
        composer: makes the settings of experiments.
    """
    latest = asked[0].request
    words = [word for word in latest.passed_on if is_decisive(word) or _key(word) == "trainer"]
    settings = _decisive(words, [job for one in asked for job in _one_a_cell(one.planned)], own.fixed, composer)
    for field, value in latest.changed.items():
        settings += _changes(field, value, getattr(own, field))
    settings += [*_classes(asked, own, own_cells), *_seeds(asked, own), *_data(asked)]
    return Differences(tuple(dict.fromkeys(settings)), all(map(_is_comparable, settings)))


def _decisive(words: Sequence[str], jobs: Sequence[Job], fixed: Mapping[str, Any], composer: Composer) -> list[str]:
    """The words without which, beside the others that are returned, some job would be another experiment."""

    def is_the_same(job: Job, without: Sequence[str]) -> bool:
        kept = [word for word in job.overrides if word not in without]
        if len(kept) == len(job.overrides):
            return True
        # What the study fixes gives way to the command line.
        given = {_key(word) for word in kept}
        keys = dict.fromkeys(map(_key, without))
        kept += [f"{key}={quoted(fixed[key])}" for key in keys if key in fixed and key not in given]
        try:
            return make_plan(composer.settings(kept), multirun=True).identity == job.plan.identity
        except (DeepSADError, HydraException, OmegaConfBaseException):
            # It cannot even be planned without these words.
            return False

    def needed(some: Sequence[str], dropped: Sequence[str]) -> list[str]:
        if not some or all(is_the_same(job, [*some, *dropped]) for job in jobs):
            return []
        if len(some) == 1:
            return list(some)
        half = len(some) // 2
        first = needed(some[:half], dropped)
        return [*first, *needed(some[half:], [*dropped, *(word for word in some[:half] if word not in first)])]

    return needed(words, [])


def _one_a_cell(planned: Planned) -> list[Job]:
    jobs: dict[tuple[Any, ...], Job] = {}
    for place in planned.places:
        jobs.setdefault(_cell(place), planned.jobs[place.experiment])
    return list(jobs.values())


def _cell(place: Place) -> tuple[Any, ...]:
    return place.experiment.dataset, place.column, place.variant, place.row


def _key(word: str) -> str:
    return word.lstrip("+~").split("=", 1)[0]


def _is_comparable(word: str) -> bool:
    return word.lstrip("+") in _COMPARABLE or _key(word) in _COMPARABLE


def _changes(field: str, value: Any, own: Any) -> list[str]:
    """``study.fixed.scenario.gamma_p=0.1``: what a command made of a field of the study."""
    if not isinstance(value, Mapping) or not isinstance(own, Mapping):
        return [f"study.{field}={value}"]
    removed = [f"~study.{field}.{key}" for key in own if key not in value]
    return [*removed, *(f"study.{field}.{key}={x}" for key, x in value.items() if key not in own or own[key] != x)]


def _classes(asked: Sequence[Asked], own: Study, own_cells: Iterable[Place] | None) -> Iterator[str]:
    """The lists of classes that give an experiment a class that the study does not give it."""
    places = None if own_cells is None else list(own_cells)
    for field, name in (("normal_classes", "normal_class"), ("anomaly_classes", "anomaly_class")):
        by_itself = {(*_cell(place), getattr(place, name)) for place in places or ()}
        for one in asked:
            found = {(*_cell(place), getattr(place, name)) for place in one.planned.places}
            value = getattr(one.study, field)
            if value != getattr(own, field) and not (places is not None and found <= by_itself):
                yield f"study.{field}={value}"


def _seeds(asked: Sequence[Asked], own: Study) -> list[str]:
    seeds = sorted({seed for one in asked for seed in one.study.seeds})
    return [] if seeds == sorted(own.seeds) else [f"seed={','.join(map(str, seeds))}"]


def _data(asked: Sequence[Asked]) -> list[str]:
    """Data sets whose files are not the published ones."""
    plans = [job.plan for one in asked for job in one.planned.unique]
    names = dict.fromkeys(plan.dataset["name"] for plan in plans if "data_digest" in plan.identity["dataset"])
    return [f"other data than the published {name}" for name in names]
