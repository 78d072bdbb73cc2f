"""Losses of many replicas at once, written by hand where that is much faster than vectorizing a method's own loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import SoftBoundarySVDDModule, radius
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.methods.losses import (
    cross_entropy,
    deep_sad_terms,
    soft_boundary_terms,
    squared_distance,
    squared_error,
)
from deepsad_pl.stacked.network import Replicas, run, stack_layers
from deepsad_pl.stacked.replica_loader import StackedLoader
from deepsad_pl.stacked.replica_norm import Rows

# Keeps the inverse distances finite in a stack without Deep SAD, where they are computed but not used.
EPS = 1e-6


def trained_parameters(module: TrainedMethod) -> dict[str, nn.Parameter]:
    """The parameters that a module's optimizer updates, in the optimizer's order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class Objective(ABC):
    """The loss of K replicas of one kind, constructed from their modules.

    Attributes:
        counts_batches: whether ``terms`` also updates ``num_batches_tracked``.
    """

    counts_batches = False

    def __init__(self, modules: Sequence[TrainedMethod]) -> None:
        self._shapes = {name: parameter.shape for name, parameter in trained_parameters(modules[0]).items()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """Split flat weights, shape (K, P), into parameters by name, shape (K, ...) each."""
        parts = weights.split_with_sizes(self._sizes, 1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    @abstractmethod
    def terms(self, weights: Tensor, buffers: dict[str, Tensor], rows: Rows, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            weights: parameters of the first k replicas, shape (k, P).
            buffers: buffers of all replicas by name, shape (K, ...); running statistics of the first k are updated.
            rows: which of the B rows are not padding.
            x: input, shape (k, B, ...).
            semi_y: semi-labels, shape (k, B).

        Returns:
            The losses, shape (k, B), in at least float32; arbitrary for padding rows.
        """

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0."""
        return

    def check(self, weights: Tensor, buffers: dict[str, Tensor], loader: StackedLoader) -> None:
        """Check before the first step that ``terms`` computes the same losses as each replica alone.

        Args:
            weights: parameters of all replicas, shape (K, P).
            buffers: buffers of all replicas; not modified.
            loader: loader of the replicas.
        """
        return


class LayeredObjective(Objective):
    """An objective whose networks are run layer by layer."""

    def terms(self, weights: Tensor, buffers: dict[str, Tensor], rows: Rows, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (k, B)."""
        active = len(x)
        means, variances = (
            [buffer[:active] for name, buffer in buffers.items() if name.endswith(which)]
            for which in ("running_mean", "running_var")
        )
        statistics = list(zip(means, variances, strict=True))
        return self.layered(Replicas(list(self.split(weights).values()), statistics, rows), x, semi_y)

    @abstractmethod
    def layered(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (k, B).

        Args:
            replicas: parameters and statistics of the first k replicas.
            x: input, shape (k, B, ...).
            semi_y: semi-labels, shape (k, B).
        """


class AutoencoderObjective(LayeredObjective):
    """The loss of :class:`~deepsad_pl.methods.autoencoder.AutoencoderModule`."""

    def __init__(self, modules: Sequence[AutoencoderModule]) -> None:
        super().__init__(modules)
        self._encoder, self._decoder = stack_layers(modules[0].encoder), stack_layers(modules[0].decoder)
        self._loss, self._sigmoid = modules[0].loss, modules[0].sigmoid

    def layered(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The reconstruction loss of each sample, shape (K, B)."""
        logits = run(self._decoder, replicas, run(self._encoder, replicas, x)).flatten(0, 1)
        flat = x.flatten(0, 1)
        if self._loss == "cross_entropy":
            return cross_entropy(logits, flat).view(x.shape[:2])
        return squared_error(logits.sigmoid() if self._sigmoid else logits, flat).view(x.shape[:2])


class HypersphereObjective(LayeredObjective):
    """The losses of Deep SAD, one-class Deep SVDD and soft-boundary Deep SVDD, in any mixture.

    Without labels Deep SAD is one-class Deep SVDD.
    """

    def __init__(self, modules: Sequence[HypersphereMethod]) -> None:
        super().__init__(modules)
        self._encoder = stack_layers(modules[0].encoder)
        self._center = torch.stack([module.center for module in modules])[:, None]
        device = self._center.device
        self._eps = next((module.eps for module in modules if isinstance(module, DeepSADModule)), EPS)
        etas = [module.eta if isinstance(module, DeepSADModule) else 1.0 for module in modules]
        self._eta = torch.tensor(etas, dtype=self._center.dtype, device=device)[:, None]
        units = [float(module.eta_unit) if isinstance(module, DeepSADModule) else 1.0 for module in modules]
        self._unit = torch.tensor(units, dtype=self._center.dtype, device=device)[:, None]
        self._sees = torch.tensor([isinstance(module, DeepSADModule) for module in modules], device=device)[:, None]
        self._nu = [module.nu if isinstance(module, SoftBoundarySVDDModule) else None for module in modules]

    def layered(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, shape (K, B)."""
        active = replicas.count
        distance2 = squared_distance(run(self._encoder, replicas, x), self._center[:active])
        labels, eta, unit = semi_y * self._sees[:active], self._eta[:active], self._unit[:active]
        terms = deep_sad_terms(distance2, labels, eta, self._eps, unit)
        nus = self._nu[:active]
        if not any(nus):
            return terms
        sizes = replicas.rows.sizes
        return torch.stack([_bounded(*of) for of in zip(nus, terms, distance2, sizes, strict=True)])


def _bounded(nu: float | None, terms: Tensor, distance2: Tensor, size: int) -> Tensor:
    """The terms of one replica; with ``nu``, those of the soft-boundary loss."""
    if nu is None:
        return terms
    return soft_boundary_terms(distance2, radius(distance2[:size].detach().sqrt(), nu), nu)
