"""Find settings by which experiments differ from their study, by comparing the identities of their plans."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.study.dataset_entries import same_name_problems
from deepsad_pl.study.grid import Place, Study
from deepsad_pl.study.jobs import Job, Planned
from deepsad_pl.study.requests import Request, literal
from deepsad_pl.sweep.decisive import is_decisive

# Settings that are reported as differences, but keep the experiments comparable with the paper's.
_COMPARABLE = ("recipe=paper", "recipe=reference", "trainer.precision", "method.selection", "seed")


@dataclass(frozen=True)
class Asked:
    """A command whose experiments are in the report.

    Attributes:
        request: the command's words.
        study: the study, as narrowed by the command.
        planned: the command's experiments.
    """

    request: Request
    study: Study
    planned: Planned


def require_one_table(asked: Sequence[Asked]) -> None:
    """Check that one table can show the experiments of several commands.

    Args:
        asked: the commands, the latest first.

    Raises:
        DeepSADError: if they have other axes than the latest, or several data sets have the same name.
    """
    then, now = ([*one.study.axes] for one in (asked[-1], asked[0]))
    if {*then} != {*now}:
        raise DeepSADError(
            f"it has the axes {', '.join(then) or 'none'}, but the study now has {', '.join(now) or 'none'}; repeat "
            "it, or remove it with action=forget"
        )
    jobs = (entry for one in asked for entry in one.planned.jobs.items())
    if problems := list(same_name_problems({of.dataset: job.plan.dataset.name for of, job in jobs})):
        raise DeepSADError(*problems)


@dataclass(frozen=True)
class Differences:
    """How the experiments differ from the study's own.

    Attributes:
        settings: settings that differ, as on the command line; may be empty.
        comparable: whether the paper's results may be shown beside the experiments'.
    """

    settings: tuple[str, ...]
    comparable: bool


def differences_of(
    asked: Sequence[Asked], own: Study, own_cells: Iterable[Place] | None, composer: Composer
) -> Differences:
    """Compare the experiments in the report with the study's own.

    A word counts as a difference if it changes the identity of an experiment; repeating a default does not.

    Args:
        asked: the commands, latest first; they have the same decisive settings.
        own: the study as defined by its YAML.
        own_cells: all cells of the data sets, methods and values in the report, with the study's own classes; None
            if one of the data sets does not have these classes.
        composer: composes the settings of experiments.
    """
    latest = asked[0].request
    words = [word for word in latest.passed_on if is_decisive(word) or _key(word) == "trainer"]
    settings = _decisive(words, [job for one in asked for job in _one_a_cell(one.planned)], own.fixed, composer)
    for field, value in latest.changed.items():
        settings += _changes(field, value, getattr(own, field))
    settings += [*_classes(asked, own, own_cells), *_seeds(asked, own), *_data(asked)]
    return Differences(tuple(dict.fromkeys(settings)), all(map(_is_comparable, settings)))


def _decisive(words: Sequence[str], jobs: Sequence[Job], fixed: Mapping[str, Any], composer: Composer) -> list[str]:
    """A minimal list of words: without any one of them, some job would be a different experiment."""

    def is_the_same(job: Job, without: Sequence[str]) -> bool:
        kept = [word for word in job.overrides if word not in without]
        if len(kept) == len(job.overrides):
            return True
        # The command line takes precedence over settings fixed by the study.
        given = {_key(word) for word in kept}
        keys = dict.fromkeys(map(_key, without))
        kept += [f"{key}={quoted(fixed[key])}" for key in keys if key in fixed and key not in given]
        try:
            return make_plan(composer.settings(kept), multirun=True).identity == job.plan.identity
        except (DeepSADError, HydraException, OmegaConfBaseException):
            # The job cannot even be planned without these words.
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
    """Overrides for a changed field of the study, such as ``study.fixed={scenario.gamma_p:0.1}``."""
    if not isinstance(value, Mapping) or not isinstance(own, Mapping):
        return [f"study.{field}={value}"]
    removed = [f"~study.{field}.{key}" for key in own if key not in value]
    changed = {key: x for key, x in value.items() if key not in own or own[key] != x}
    # Hydra would take the dots of a setting's name for levels.
    dotted = {key: x for key, x in changed.items() if "." in key}
    told = [f"study.{field}={literal(dotted)}"] if dotted else []
    return [*removed, *told, *(f"study.{field}.{key}={x}" for key, x in changed.items() if key not in dotted)]


def _classes(asked: Sequence[Asked], own: Study, own_cells: Iterable[Place] | None) -> Iterator[str]:
    """The class lists that lead to an experiment with a class outside the study."""
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
    names = dict.fromkeys(plan.dataset.name for plan in plans if "data_digest" in plan.identity["dataset"])
    return [f"data other than the published {name}" for name in names]
