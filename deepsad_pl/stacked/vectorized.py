"""Compute a method's own loss for many replicas at once by vectorizing it with ``torch.func``."""

import copy
import random
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepsad_pl.common.lightning_api import LightningModule
from deepsad_pl.common.process_state import random_states_kept
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.stacked.agreement import OF_TRAINING, Place, facts_of, is_same, put
from deepsad_pl.stacked.objectives import Objective, trained_parameters
from deepsad_pl.stacked.padding import Padded, PaddedNorms, paddings
from deepsad_pl.stacked.replica_loader import StackedLoader
from deepsad_pl.stacked.replica_norm import Rows
from deepsad_pl.stacked.steps import NotVectorizedError, Step, are_near, compute_step, or_not_vectorized, step_alone

# The hooks that influence the training in addition to the loss.
_HOOKS = sorted(
    name
    for name in {
        *(name for part in LightningModule.__mro__ if part.__name__.endswith("Hooks") for name in vars(part)),
        *("training_step", "configure_optimizers", "configure_callbacks", "optimizer_step", "optimizer_zero_grad"),
        "training_part",
        *("backward", "configure_gradient_clipping", "lr_scheduler_step"),
    }
    if name[0] != "_" and not any(word in name for word in ("test", "predict", "val"))
)
# Overridden hooks that a stack supports.
_FOLLOWED = (HypersphereMethod.on_train_start,)


def require_trained_by_terms(module: TrainedMethod) -> None:
    """Raise an error if a module customizes its training by anything but its loss.

    Raises:
        ValueError: if it overrides a hook of the training; names the hook.
    """
    name = type(module).__name__
    for hook in _HOOKS:
        found = getattr(getattr(module, hook), "__func__", None)
        if found is not getattr(TrainedMethod, hook) and found not in _FOLLOWED:
            raise ValueError(f"{name} has a {hook} of its own")
    if not module.automatic_optimization:
        raise ValueError(f"{name} optimizes by itself")
    if len({parameter.dtype for parameter in trained_parameters(module).values()}) != 1:
        raise ValueError(f"the trained parameters of {name} differ in type")


def agreement_of(module: TrainedMethod) -> Hashable:
    """What must be equal in replicas that are vectorized as one: everything but tensors and floats.

    Raises:
        ValueError: if the module cannot be compared with others; gives the reason.
    """
    return facts_of(module).agreed


def floats_of(module: TrainedMethod) -> Hashable:
    """The floats of a module, in which replicas may differ."""
    return tuple(number for number in facts_of(module).numbers.values() if isinstance(number, float))


class _Epoch:
    """Stand-in for the Trainer that gives a loss only the current epoch.

    Attributes:
        asked: whether the loss has read the epoch.
    """

    def __init__(self) -> None:
        self.epoch = self.global_rank = 0
        self.world_size = 1
        self.asked = False

    @property
    def current_epoch(self) -> int:
        self.asked = True
        return self.epoch

    def __getattr__(self, name: str) -> Any:
        raise NotVectorizedError(f"they ask the Trainer for {name}")


class _Terms(nn.Module):
    """Wraps a method so that its forward pass returns its terms."""

    def __init__(self, method: TrainedMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: Tensor, semi_y: Tensor) -> Tensor:
        return self.method.terms(x, semi_y)


class VectorizedObjective(Objective):
    """The ``terms`` of any method, for replicas that are equal in everything but tensors and floats.

    Each replica's noise is drawn by its own ``draw``. Batches of unequal sizes are padded if that does not change the
    results of the real rows; else only replicas with equal batch sizes are computed together.

    Args:
        modules: modules with equal :func:`agreement_of`, in the state in which their training begins, on their device.
    """

    counts_batches = True

    @or_not_vectorized()
    def __init__(self, modules: Sequence[TrainedMethod]) -> None:
        super().__init__(modules)
        self._modules = list(modules)
        self._epoch = _Epoch()
        # A copy, since its numbers get replaced; its weights are never read.
        self._one = copy.deepcopy(modules[0])
        # Replicas may differ in these settings, so no loss may read them.
        for name in OF_TRAINING:
            vars(self._one).pop(name, None)
            self._one.hparams.pop(name, None)
        self._one._trainer = self._epoch  # type: ignore[assignment]
        self._forward = _Terms(self._one)
        self._names = _names_of_one(modules[0])
        self._constants = {
            name: torch.stack([module.get_parameter(name) for module in modules])
            for name, parameter in modules[0].named_parameters()
            if not parameter.requires_grad
        }
        like = next(iter(trained_parameters(modules[0]).values())).detach()
        of_each = [facts_of(module).numbers for module in modules]
        self._numbers: dict[Place, Tensor] = {}
        for place, first in of_each[0].items():
            numbers = [numbers[place] for numbers in of_each]
            if not all(is_same(number, first) for number in numbers):
                self._numbers[place] = torch.stack([torch.as_tensor(number, **_as(number, like)) for number in numbers])
        # Set by the check if padding is possible.
        self._norms: PaddedNorms | None = None
        self._pads = False

    def start_epoch(self, epoch: int) -> None:
        """Start the epoch in every replica, whose noise depends on it."""
        self._epoch.epoch = epoch
        for module in self._modules:
            module.start_noise(epoch)

    @or_not_vectorized()
    def terms(self, weights: Tensor, buffers: dict[str, Tensor], rows: Rows, x: Tensor, semi_y: Tensor) -> Tensor:
        """The terms of each replica, shape (k, B). Updates buffers as the method does."""
        drawn = [module.draw(size) for module, size in zip(self._modules, rows.sizes, strict=False)]
        if rows.valid is not None and self._pads:
            return self._padded(weights, buffers, rows, x, semi_y, drawn)
        return self._by_size(weights, buffers, rows, x, semi_y, drawn)

    @or_not_vectorized()
    def check(self, weights: Tensor, buffers: dict[str, Tensor], loader: StackedLoader) -> None:
        """Compare a step with the steps of the replicas alone, without changing any state.

        Raises:
            NotVectorizedError: if they differ in losses, gradients or buffers, or if a replica does something that a
                stack cannot reproduce.
        """
        x, semi_y, rows = next(next(iter(loader)))
        copies = [copy.deepcopy(module) for module in self._modules]
        with _from_own_streams():
            drawn = [module.draw(size) for module, size in zip(copies, rows.sizes, strict=True)]
        # This step comes first: torch rejects what cannot be vectorized, such as drawing from its random streams.
        at_once = compute_step(
            partial(self._by_size, rows=rows, x=x, semi_y=semi_y, drawn=drawn), weights, buffers, rows
        )
        alone: list[Step] = []
        for k, (module, size) in enumerate(zip(copies, rows.sizes, strict=True)):
            module._trainer = self._epoch  # type: ignore[assignment]
            _hand(module, drawn[k])
            alone.append(step_alone(module, x[k, :size], semi_y[k, :size]))
        if not are_near(alone, at_once, rows.sizes):
            raise NotVectorizedError("they give different results for several replicas than for one")
        # A loss that reads the epoch may depend on the whole batch in another epoch, so padding is not safe.
        if loader.pads and not self._epoch.asked:
            with suppress(NotVectorizedError, ValueError):
                self._norms = PaddedNorms(self._one)
                self._pads = all(
                    are_near(alone, compute_step(terms, weights, buffers, wide, with_gradient=fill is None), rows.sizes)
                    for fill, wide, filled, labels in paddings(x, semi_y, rows)
                    for terms in [partial(self._padded, rows=wide, x=filled, semi_y=labels, drawn=drawn, fill=fill)]
                )

    def _by_size(
        self,
        weights: Tensor,
        buffers: dict[str, Tensor],
        rows: Rows,
        x: Tensor,
        semi_y: Tensor,
        drawn: Sequence[tuple[Tensor, ...]],
    ) -> Tensor:
        """The terms of each replica, computed by batch size without padding rows, whose terms are 0."""
        of_size: dict[int, list[int]] = {}
        for k, size in enumerate(rows.sizes):
            of_size.setdefault(size, []).append(k)
        if len(of_size) == 1:
            return self._vectorized(_First(len(x)), weights, buffers, x, semi_y, drawn)
        every: Tensor | None = None
        for size, members in of_size.items():
            some = _Some(torch.tensor(members).to(x.device, non_blocking=True))
            of_some = some.of(x)[:, :size], some.of(semi_y)[:, :size]
            terms = self._vectorized(some, weights, buffers, *of_some, [drawn[k] for k in members])
            every = terms.new_zeros(semi_y.shape) if every is None else every
            every[some.index, :size] = terms
        assert every is not None
        return every

    def _padded(
        self,
        weights: Tensor,
        buffers: dict[str, Tensor],
        rows: Rows,
        x: Tensor,
        semi_y: Tensor,
        drawn: Sequence[tuple[Tensor, ...]],
        fill: float | None = None,
    ) -> Tensor:
        """The terms of each replica, computed with padding rows, whose terms are arbitrary."""
        width = x.shape[1]
        wide = [tuple(_widened(of, size, width) for of in one) for one, size in zip(drawn, rows.sizes, strict=True)]
        return self._vectorized(_First(len(x)), weights, buffers, x, semi_y, wide, rows, fill)

    def _vectorized(
        self,
        members: "_First | _Some",
        weights: Tensor,
        buffers: dict[str, Tensor],
        x: Tensor,
        semi_y: Tensor,
        drawn: Sequence[tuple[Tensor, ...]],
        rows: Rows | None = None,
        fill: float | None = None,
    ) -> Tensor:
        """The terms of some replicas, shape (k, B).

        Args:
            members: the replicas to compute.
            weights: parameters of all replicas.
            buffers: buffers of all replicas; updated.
            x: input of these replicas, shape (k, B, ...).
            semi_y: semi-labels of these replicas, shape (k, B).
            drawn: noise of these replicas.
            rows: which of the B rows are not padding; None: all of them.
            fill: see :class:`~deepsad_pl.stacked.padding.Padded`.
        """

        def alone(
            tensors: dict[str, Tensor],
            numbers: list[Tensor],
            drawn: list[Tensor],
            padding: list[Tensor],
            x: Tensor,
            semi_y: Tensor,
        ) -> tuple[Tensor, list[Tensor]]:
            for place, number in zip(self._numbers, numbers, strict=True):
                put(self._one, place, number)
            if self._norms is not None:
                self._norms.padded = Padded(padding[0], padding[1], fill) if padding else None
            _hand(self._one, drawn)
            state = {f"method.{name}": tensors[same] for name, same in self._names.items()}
            terms = torch.func.functional_call(self._forward, state, (x, semi_y), tie_weights=False)
            if terms.shape != semi_y.shape:
                raise NotVectorizedError(f"they have shape {tuple(terms.shape)} for {len(x)} samples")
            # A method may replace buffers instead of writing into them.
            return terms, [state[f"method.{name}"].detach() for name in buffers]

        constant = {name: members.of(tensor) for name, tensor in (buffers | self._constants).items()}
        terms, moved = torch.func.vmap(alone)(
            {**self.split(members.of(weights)), **constant},
            [members.of(numbers) for numbers in self._numbers.values()],
            [torch.stack(column) for column in zip(*drawn, strict=True)],
            [] if rows is None or rows.valid is None else [rows.weight[:, 0], rows.valid[..., 0]],
            x,
            semi_y,
        )
        for buffer, of_members in zip(buffers.values(), moved, strict=True):
            members.write(buffer, of_members)
        return terms


@contextmanager
def _from_own_streams() -> Iterator[None]:
    """Raise an error if the block draws from a global random stream, and restore these streams.

    Raises:
        NotVectorizedError: if the block draws from one.
    """
    devices = range(torch.cuda.device_count())
    of_torch = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    with random_states_kept():
        of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
        yield
        moved = not all(map(torch.equal, of_torch, [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]))
        moved |= repr(of_numpy) != repr(np.random.get_state()) or of_python != random.getstate()  # noqa: NPY002
    if moved:
        raise NotVectorizedError("they draw from a random generator that all replicas share")


def _hand(module: TrainedMethod, drawn: Sequence[Tensor]) -> None:
    """Make a module's ``draw`` return the noise that was already drawn for it."""

    def draw(size: int) -> tuple[Tensor, ...]:
        return tuple(drawn)

    module.draw = draw  # type: ignore[method-assign]


def _names_of_one(module: nn.Module) -> dict[str, str]:
    """Map the names of all parameters and buffers to the first name of the same tensor."""
    names: dict[str, str] = {}
    for named in (module.named_parameters, module.named_buffers):
        first = {id(tensor): name for name, tensor in named()}
        names |= {name: first[id(tensor)] for name, tensor in named(remove_duplicate=False)}
    return names


def _widened(tensor: Tensor, size: int, width: int) -> Tensor:
    """Pad the noise of a batch with zeros to the given width."""
    if tensor.shape[:1] != (size,):
        raise NotVectorizedError("their noise is not drawn per sample")
    return torch.cat([tensor, tensor.new_zeros(width - size, *tensor.shape[1:])])


class _First:
    """Selects the first replicas."""

    def __init__(self, count: int) -> None:
        self.count = count

    def of(self, every: Tensor) -> Tensor:
        """Return the selected part of a tensor with a leading replica dimension."""
        return every[: self.count]

    def write(self, every: Tensor, part: Tensor) -> None:
        """Write the selected part into such a tensor."""
        if part.data_ptr() != every.data_ptr():  # else it was written in place
            self.of(every).copy_(part)


class _Some:
    """Selects replicas by their indices."""

    def __init__(self, index: Tensor) -> None:
        self.index = index

    def of(self, every: Tensor) -> Tensor:
        """Return the selected part of a tensor with a leading replica dimension."""
        return every.index_select(0, self.index)

    def write(self, every: Tensor, part: Tensor) -> None:
        """Write the selected part into such a tensor."""
        every.index_copy_(0, self.index, part)


def _as(number: float | Tensor, like: Tensor) -> dict[str, Any]:
    """Dtype and device for a stacked number; a float gets those of the parameters, to round as in a single training."""
    return {} if isinstance(number, Tensor) else {"dtype": like.dtype, "device": like.device}
