"""Estimate how long experiments take on this machine before any similar one is finished."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from deepsad_pl.common.gpus import driver_has_gpu
from deepsad_pl.experiment.cost import Part, parts_of
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.stacked.grouping import LEAST_OF_ROWS, largest_batch, packs_of, pays_on_cpu, stack_key


@dataclass(frozen=True)
class RoughEstimate:
    """Estimated time for experiments of a kind of which none has finished.

    Attributes:
        cost: the time with parallel processes, in multiples of
            :func:`~deepsad_pl.study.machine_speed.probe_seconds`; it excludes the experiments counted below.
        undeclared: number of experiments with a choice that does not declare its cost.
        on_gpu: number of experiments that would be trained on a GPU, whose speed is not known.
    """

    cost: float
    undeclared: int
    on_gpu: int


def rough_estimate(
    plans: Sequence[Plan], finished: Iterable[Plan], *, processes: int, most_in_stack: int
) -> RoughEstimate:
    """Add up what the choices of each experiment declare about their cost.

    A training that experiments share is counted once, and not at all if a finished experiment has done it. The
    experiments of a stack share the overhead of each step. The processes share the work, but the time is at least that
    of the longest stack or experiment.

    Args:
        plans: plans of the experiments.
        finished: plans of finished experiments.
        processes: number of stacks or experiments that run in parallel, >= 1.
        most_in_stack: maximum number of experiments that are trained as one, >= 1.
    """
    has_gpu = driver_has_gpu()
    done = {part.key for plan in finished for part in parts_of(plan) or () if part.key is not None}
    undeclared = on_gpu = 0
    spent: list[float] = []
    groups: dict[Hashable, list[tuple[Plan, list[Part]]]] = {}
    for plan in plans:
        if _is_on_gpu(plan, has_gpu):
            on_gpu += 1
        elif (parts := parts_of(plan)) is None:
            undeclared += 1
        else:
            left = [replace(part, per_stack=0.0, per_experiment=0.0) if part.key in done else part for part in parts]
            done |= {part.key for part in parts if part.key is not None}
            key = stack_key(plan) if most_in_stack > 1 else None
            if key is None or not pays_on_cpu(plan.dataset.about.shape or (), largest_batch(plan)):
                spent.append(_of_stack([left]))
            else:
                groups.setdefault(key, []).append((plan, left))
    for key, items in groups.items():
        least = LEAST_OF_ROWS if items[0][0].dataset.about.inputs == "rows" else 1
        packs = packs_of(((key, parts) for _, parts in items), most=most_in_stack, workers=processes, least=least)
        spent += map(_of_stack, packs)
    return RoughEstimate(max(sum(spent) / processes, max(spent, default=0.0)), undeclared, on_gpu)


def _of_stack(experiments: Sequence[Sequence[Part]]) -> float:
    """The cost of experiments that are trained as one; all have the same number of parts."""
    together: float = sum(max(part.per_stack for part in parts) for parts in zip(*experiments, strict=True))
    return together + sum(part.per_experiment for parts in experiments for part in parts)


def _is_on_gpu(plan: Plan, has_gpu: bool) -> bool:
    """Whether a network is trained on a GPU."""
    accelerator = plan.trainer["accelerator"]
    trains = not plan.about.shallow or plan.pretrain is not None
    return trains and (accelerator == "gpu" or (accelerator == "auto" and has_gpu))
