"""Single steps of replicas, at once and alone, to be compared before any training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.stacked.agreement import OF_TRAINING, facts_of, is_same
from deepsad_pl.stacked.objectives import trained_parameters
from deepsad_pl.stacked.replica_norm import Rows

# How far losses and buffers, and gradients, may be from those of a replica alone, relative to their norm. In single
# precision another order of sums moves the gradient of a deep network by some percent.
_TOLERANCES = {torch.float64: (1e-6, 1e-6)}
_LOOSE_TOLERANCES = (1e-3, 1e-1)


class NotVectorizedError(Exception):
    """The terms of a method cannot be computed for several replicas at once; says why, of "they"."""


@contextmanager
def or_not_vectorized() -> Iterator[None]:
    """Let whatever goes wrong mean that a method cannot be vectorized; trained alone it says what else is wrong."""
    try:
        yield
    except (NotVectorizedError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, AttributeError) and (read := [name for name in OF_TRAINING if f"'{name}'" in str(error)]):
            raise NotVectorizedError(f"they read {read[0]}, in which replicas may differ") from error
        raise NotVectorizedError(str(error).partition("\n")[0].partition(". ")[0]) from error


@dataclass(frozen=True)
class Step:
    """What a step comes to; of K replicas at once with a leading dimension of them.

    Attributes:
        terms: shape (B,).
        gradient: of their mean, shape (P,), or None.
        buffers: after it, by their names.
    """

    terms: Tensor
    gradient: Tensor | None
    buffers: dict[str, Tensor]


def taken_step(
    terms: Callable[..., Tensor],
    weights: Tensor,
    buffers: dict[str, Tensor],
    rows: Rows,
    with_gradient: bool = True,
) -> Step:
    """A step of all replicas at once.

    Args:
        terms: of ``weights`` and ``buffers``, shape (K, B).
        weights: of all, shape (K, P).
        buffers: of all, left as they are.
        rows: which of the B rows count.
        with_gradient: whether it is computed.
    """
    weights = weights.detach().clone().requires_grad_()
    buffers = {name: buffer.clone() for name, buffer in buffers.items()}
    gradient = None
    with torch.enable_grad():
        found = terms(weights=weights, buffers=buffers)
        if with_gradient:
            (gradient,) = torch.autograd.grad((found * rows.weight[:, 0]).sum(), [weights])
    return Step(found.detach(), gradient, buffers)


def step_alone(module: TrainedMethod, x: Tensor, semi_y: Tensor) -> Step:
    """A step of one replica, whose buffers are moved.

    Raises:
        NotVectorizedError: if the module does what a stack cannot follow.
    """
    with torch.enable_grad():
        before = facts_of(module)
        # A tensor may be changed in place.
        numbers = [one.clone() if isinstance(one, Tensor) else one for one in before.numbers.values()]
        terms, after = module.terms(x, semi_y), facts_of(module)
        if before.agreed != after.agreed or not all(map(is_same, numbers, after.numbers.values())):
            raise NotVectorizedError("they change attributes of the module")
        trained = trained_parameters(module)
        gradient = torch.autograd.grad(terms.mean(), list(trained.values()), allow_unused=True)
    for name, of_parameter in zip(trained, gradient, strict=True):
        if of_parameter is None:
            # Adam leaves it alone, but not where it is one of many in a row.
            raise NotVectorizedError(f"they give {name} no gradient")
    flat = torch.cat([of_parameter.reshape(-1) for of_parameter in gradient if of_parameter is not None])
    return Step(terms.detach(), flat, dict(module.named_buffers()))


def are_near(alone: Sequence[Step], at_once: Step, sizes: Sequence[int]) -> bool:
    """Whether a step at once comes to what each of the replicas comes to alone, but for rounding.

    Args:
        alone: of each replica.
        at_once: of all; without a gradient, that is not compared.
        sizes: how many rows of each replica count, the first ones.
    """
    of_values, of_gradient = _TOLERANCES.get(alone[0].terms.dtype, _LOOSE_TOLERANCES)
    for k, (one, size) in enumerate(zip(alone, sizes, strict=True)):
        values = [(at_once.terms[k, :size], one.terms)]
        values += [(at_once.buffers[name][k], buffer) for name, buffer in one.buffers.items()]
        gradients: list[tuple[Tensor, Tensor]] = []
        if at_once.gradient is not None and one.gradient is not None:
            gradients.append((at_once.gradient[k], one.gradient))
        if not all(_near(*pair, of_values) for pair in values) or not all(
            _near(*pair, of_gradient) for pair in gradients
        ):
            return False
    return True


def _near(found: Tensor, alone: Tensor, tolerance: float) -> bool:
    """Whether tensors agree; one that is not finite alone fails its replica anyway."""
    if not alone.isfinite().all():
        return True
    found, alone = found.detach().double(), alone.detach().double()
    return bool((found - alone).norm() <= tolerance * alone.norm() + 1e-12)
