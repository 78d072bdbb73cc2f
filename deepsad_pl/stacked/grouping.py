"""Decide which experiments are trained in one stack, and how many."""

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from deepsad_pl.common.ranges import may_vary
from deepsad_pl.experiment.identity import code_of
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.settings.choices import MethodChoice, TrainingChoice
from deepsad_pl.settings.typed import kind_of_setting
from deepsad_pl.training.trainer_arguments import has_arguments

T = TypeVar("T")

# Settings of the data set that each phase sets for itself.
_SCHEDULE = ("lr", "epochs", "batch_size")
# On CPUs, larger stacks do not lower the cost per replica any further; on GPUs, memory is the limit.
MOST_ON_CPU, MOST_ON_GPU = 32, 256
# On a CPU, a few replicas of a network for rows cost hardly more than one; for images the cost is proportional.
LEAST_OF_ROWS = 16
# On a CPU, stacks of convolutions were never slower than one network after the other up to this number of pixels of a
# batch, and mostly slower beyond it: benchmarks/README.md, "sweep".
MOST_PIXELS_ON_CPU = 2**13


def pays_on_cpu(shape: Sequence[int], batch_size: int) -> bool:
    """Whether a stack is at least as fast on a CPU as its experiments one after the other.

    Args:
        shape: shape of a sample, (C, H, W) or (D,).
        batch_size: the largest of the phases.
    """
    return len(shape) < 3 or batch_size * shape[1] * shape[2] <= MOST_PIXELS_ON_CPU


def largest_batch(plan: Plan) -> int:
    """The largest batch size of the phases of a plan, >= 1; all phases train a network."""
    return max(phase.batch_size for phase in (plan.method, plan.pretrain) if phase and phase.batch_size is not None)


def stack_key(plan: Plan) -> Hashable | None:
    """Key that is equal for experiments that can be stacked; None for an experiment that must be run alone.

    Experiments in a stack share the data set, the network, the method or its family, the number of epochs of each
    phase, the trainer, and all settings that are not real numbers; all or none of them start from an earlier run. They
    may differ in classes, gammas, k_l, eta, seed, learning rates, weight decay, batch size and number of samples.
    """
    if plan.about.shallow or plan.ranks > 1 or plan.trainer["compile"] or has_arguments(plan.trainer):
        return None
    agree: list[Any] = [
        {key: value for key, value in plan.dataset.settings().items() if key not in _SCHEDULE},
        plan.dataset.about,
        [phase and [_kind_of(phase), sum(phase.epochs)] for phase in (plan.method, plan.pretrain)],
        plan.trainer,
        plan.starts_warm,
    ]
    return json.dumps(agree, sort_keys=True, default=str)


def _kind_of(phase: TrainingChoice) -> Any:
    """The family of a training, or its class with the settings that must be equal within a stack."""
    if isinstance(phase, MethodChoice) and phase.about.stack is not None and not code_of(phase):
        return phase.about.stack
    agreed = {
        name: value
        for name, value in phase.arguments.items()
        if name not in _SCHEDULE and not may_vary(kind_of_setting(phase, name))
    }
    return phase.target, agreed


def packs_of(
    items: Iterable[tuple[Hashable, T]],
    *,
    most: int,
    workers: int,
    least: int = 1,
    together: Callable[[T], Hashable] | None = None,
) -> list[list[T]]:
    """Divide items into packs of equal keys: as few packs as allowed, with sizes that differ by at most one.

    Args:
        items: pairs of key and item; items of one key keep their order.
        most: maximum number of items per pack, >= 1.
        workers: number of workers that run packs in parallel, >= 1; a key's items are spread evenly over them.
        least: minimum number of items per pack to which a key is divided for the sake of the workers.
        together: adjacent items with the same value are kept in one pack if ``most`` allows it, at the cost of less
            even sizes; None: no items are kept together.
    """
    groups: dict[Hashable, list[T]] = {}
    for key, item in items:
        groups.setdefault(key, []).append(item)
    packs: list[list[T]] = []
    for group in groups.values():
        count = -(-len(group) // most)
        even = min(len(group), -(-count // workers) * workers)
        count = even if len(group) // even >= least else count
        packs += _split(group, count, most, together or (lambda _: object()))
    return packs


def _split(group: Sequence[T], count: int, most: int, together: Callable[[T], Hashable]) -> list[list[T]]:
    size, larger = divmod(len(group), count)
    starts = [i * size + min(i, larger) for i in range(count + 1)]
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(map(together, group))) if a != b), len(group)]
    snapped = [min(cuts, key=lambda cut, start=start: abs(cut - start)) for start in starts]  # type: ignore[misc]
    if all(0 < b - a <= most for a, b in pairwise(snapped)):
        starts = snapped
    return [list(group[a:b]) for a, b in pairwise(starts)]
