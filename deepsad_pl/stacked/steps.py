"""Compute single training steps of replicas, together and alone, to compare them before the training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.stacked.agreement import OF_TRAINING, facts_of, is_same
from deepsad_pl.stacked.objectives import trained_parameters
from deepsad_pl.stacked.replica_norm import Rows

# Tolerances (losses and buffers, gradients) for the difference from a replica alone, relative to the norm. In single
# precision, a different order of summation can change the gradient of a deep network by a few percent.
_TOLERANCES = {torch.float64: (1e-6, 1e-6)}
_LOOSE_TOLERANCES = (1e-3, 1e-1)


class NotVectorizedError(Exception):
    """Raised if a method's terms cannot be computed for several replicas at once; the message completes "they ..."."""


@contextmanager
def or_not_vectorized() -> Iterator[None]:
    """Turn any error into NotVectorizedError. An error of another cause recurs when the method is trained alone."""
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
    """Result of a step; for K replicas at once, all tensors have a leading replica dimension.

    Attributes:
        terms: loss terms, shape (B,).
        gradient: gradient of their mean, shape (P,), or None.
        buffers: buffers after the step, by name.
    """

    terms: Tensor
    gradient: Tensor | None
    buffers: dict[str, Tensor]


def compute_step(
    terms: Callable[..., Tensor],
    weights: Tensor,
    buffers: dict[str, Tensor],
    rows: Rows,
    with_gradient: bool = True,
) -> Step:
    """Compute a step of all replicas at once.

    Args:
        terms: function of ``weights`` and ``buffers`` that returns the loss terms, shape (K, B).
        weights: parameters of all replicas, shape (K, P).
        buffers: buffers of all replicas; not modified.
        rows: which of the B rows are not padding.
        with_gradient: whether to compute the gradient.
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
    """Compute a step of one replica, and update its buffers.

    Raises:
        NotVectorizedError: if the module does something that a stack cannot reproduce.
    """
    with torch.enable_grad():
        before = facts_of(module)
        # Clone tensors, since they may be changed in place.
        numbers = [one.clone() if isinstance(one, Tensor) else one for one in before.numbers.values()]
        terms, after = module.terms(x, semi_y), facts_of(module)
        if before.agreed != after.agreed or not all(map(is_same, numbers, after.numbers.values())):
            raise NotVectorizedError("they change attributes of the module")
        trained = trained_parameters(module)
        gradient = torch.autograd.grad(terms.mean(), list(trained.values()), allow_unused=True)
    for name, of_parameter in zip(trained, gradient, strict=True):
        if of_parameter is None:
            # Torch's Adam skips a parameter without a gradient, but StackedAdam would update it as part of a row.
            raise NotVectorizedError(f"they give {name} no gradient")
    flat = torch.cat([of_parameter.reshape(-1) for of_parameter in gradient if of_parameter is not None])
    return Step(terms.detach(), flat, dict(module.named_buffers()))


def are_near(alone: Sequence[Step], at_once: Step, sizes: Sequence[int]) -> bool:
    """Whether a step of all replicas at once equals the steps of the replicas alone, up to rounding.

    Args:
        alone: step of each replica alone.
        at_once: step of all replicas; if it has no gradient, gradients are not compared.
        sizes: number of real rows of each replica, which come before the padding.
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
    """Whether tensors agree; a tensor that is not finite alone passes, since its replica will fail anyway."""
    if not alone.isfinite().all():
        return True
    found, alone = found.detach().double(), alone.detach().double()
    return bool((found - alone).norm() <= tolerance * alone.norm() + 1e-12)
