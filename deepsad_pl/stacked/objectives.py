"""The losses of many replicas at once: what each method minimizes, with a leading dimension of replicas."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deepsad_pl.losses import (
    at_least_float32,
    classifier_terms,
    cross_entropy,
    deep_sad_terms,
    soft_boundary_terms,
    squared_distance,
    squared_error,
)
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule, radius
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.methods.ss_dgm import SSDGMModule, class_bounds
from deepsad_pl.methods.vae import GenerativeMethod, VAEModule
from deepsad_pl.stacked.network import Replicas, require_stackable, run, run_whole, stack_layers, vectorized
from deepsad_pl.variational import gaussian_kl, reparameterized, ss_dgm_terms

# Where no replica has an inverse, something finite to compute and not to use.
_EPS = 1e-6


class Objective(ABC):
    """What K replicas of one kind (see :func:`kind_of`) minimize; made from their modules."""

    @abstractmethod
    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample, of the parameters in the order of :func:`networks_of`.

        Args:
            replicas: parameters of the first ones.
            x: input, shape (K, B, ...).
            semi_y: semi-labels, shape (K, B).

        Returns:
            Shape (K, B), in float32 at least; rows of padding have some value.
        """

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, from 0."""
        return


class AutoencoderObjective(Objective):
    """See :class:`~deepsad_pl.methods.autoencoder.AutoencoderModule`."""

    def __init__(self, modules: Sequence[AutoencoderModule]) -> None:
        self._encoder, self._decoder = stack_layers(modules[0].encoder), stack_layers(modules[0].decoder)
        self._loss, self._sigmoid = modules[0].loss, modules[0].sigmoid

    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The reconstruction loss of each sample, shape (K, B)."""
        logits = run(self._decoder, replicas, run(self._encoder, replicas, x)).flatten(0, 1)
        flat = x.flatten(0, 1)
        if self._loss == "cross_entropy":
            return cross_entropy(logits, flat).view(x.shape[:2])
        return squared_error(logits.sigmoid() if self._sigmoid else logits, flat).view(x.shape[:2])


class HypersphereObjective(Objective):
    """Deep SAD, one-class and soft-boundary Deep SVDD, in any mixture.

    Without labels Deep SAD is one-class Deep SVDD.
    """

    def __init__(self, modules: Sequence[HypersphereMethod]) -> None:
        self._encoder = stack_layers(modules[0].encoder)
        self._center = torch.stack([module.center for module in modules])[:, None]
        device = self._center.device
        self._eps = next((module.eps for module in modules if isinstance(module, DeepSADModule)), _EPS)
        etas = [module.eta if isinstance(module, DeepSADModule) else 1.0 for module in modules]
        self._eta = torch.tensor(etas, dtype=self._center.dtype, device=device)[:, None]
        self._sees = torch.tensor([isinstance(module, DeepSADModule) for module in modules], device=device)[:, None]
        self._nu = [module.nu if isinstance(module, SoftBoundarySVDDModule) else None for module in modules]

    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The summands of each objective, shape (K, B)."""
        active = replicas.count
        distance2 = squared_distance(run(self._encoder, replicas, x), self._center[:active])
        terms = deep_sad_terms(distance2, semi_y * self._sees[:active], self._eta[:active], self._eps)
        nus = self._nu[:active]
        if not any(nus):
            return terms
        sizes = replicas.rows.sizes
        return torch.stack([_bounded(*of) for of in zip(nus, terms, distance2, sizes, strict=True)])


def _bounded(nu: float | None, terms: Tensor, distance2: Tensor, size: int) -> Tensor:
    """The terms of a replica, of a soft boundary if it has a nu."""
    if nu is None:
        return terms
    return soft_boundary_terms(distance2, radius(distance2[:size].detach().sqrt(), nu), nu)


class ClassifierObjective(Objective):
    """See :class:`~deepsad_pl.methods.classifier.ClassifierModule`."""

    def __init__(self, modules: Sequence[ClassifierModule]) -> None:
        self._layers = [*stack_layers(modules[0].encoder), *stack_layers(modules[0].head)]

    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The cross-entropy of each sample, shape (K, B)."""
        logits = run(self._layers, replicas, x).squeeze(2)
        return classifier_terms(at_least_float32(logits), semi_y)


class GenerativeObjective(Objective):
    """What generative methods share: noise that each replica draws from its own generator."""

    def __init__(self, modules: Sequence[GenerativeMethod]) -> None:
        self._drawing = list(modules)

    def start_epoch(self, epoch: int) -> None:
        """Let every replica draw the noise of that epoch."""
        for module in self._drawing:
            module.start_noise(epoch)

    def noise(self, replicas: Replicas, x: Tensor) -> list[Tensor]:
        """What is drawn for each sample, shape (K, B, width) for each thing that is; 0 for padding."""
        drawn = [torch.zeros(*x.shape[:2], width, device=x.device) for width in self._drawing[0].noise_widths]
        for k, (module, size) in enumerate(zip(self._drawing[: len(x)], replicas.rows.sizes, strict=True)):
            for of_all, width in zip(drawn, module.noise_widths, strict=True):
                of_all[k, :size] = module.noise(size, width)
        return drawn


class VAEObjective(GenerativeObjective):
    """See :class:`~deepsad_pl.methods.vae.VAEModule`."""

    def __init__(self, modules: Sequence[VAEModule]) -> None:
        super().__init__(modules)
        self._encoder, self._decoder = modules[0].encoder, modules[0].decoder
        self._log_likelihood = modules[0].log_likelihood

    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The negative bound of each sample, shape (K, B)."""
        (of_z,) = self.noise(replicas, x)
        mean, log_var = run_whole(self._encoder, replicas, x)
        out = run_whole(self._decoder, replicas, reparameterized(mean, log_var, of_z))
        kl = gaussian_kl(mean.flatten(0, 1), log_var.flatten(0, 1))
        return (kl - self._log_likelihood(out.flatten(0, 1), x.flatten(0, 1).flatten(1))).view(x.shape[:2])


class SSDGMObjective(GenerativeObjective):
    """See :class:`~deepsad_pl.methods.ss_dgm.SSDGMModule`."""

    def __init__(self, modules: Sequence[SSDGMModule]) -> None:
        super().__init__(modules)
        first = modules[0]
        self._classifier = [*stack_layers(first.encoder), *stack_layers(first.head)]
        self._inference, self._decoder = first.inference, first.decoder
        self._log_likelihood = first.log_likelihood
        weight = next(first.head.parameters())
        self._alpha = weight.new_tensor([module.alpha for module in modules])[:, None]
        self._m1 = first.m1
        if self._m1 is not None:
            frozen = [dict(module.m1.named_parameters()) for module in modules if module.m1 is not None]
            self._weights_of_m1 = {name: torch.stack([of[name] for of in frozen]) for name in frozen[0]}

    def terms(self, replicas: Replicas, x: Tensor, semi_y: Tensor) -> Tensor:
        """The summands of each objective, shape (K, B)."""
        *of_z1, of_z = self.noise(replicas, x)
        features = self._features(x, of_z1)
        # The classifier comes first among the weights.
        logits = run(self._classifier, replicas, features).flatten(0, 1)
        mean, log_var = run_whole(self._inference, replicas, features)
        out = run_whole(self._decoder, replicas, reparameterized(mean, log_var, of_z[:, None]))
        # (K, classes, B, ...) -> (classes, K * B, ...)
        by_class = (tensor.transpose(0, 1).flatten(1, 2) for tensor in (mean, log_var, out))
        bounds = class_bounds(self._log_likelihood, features.flatten(0, 1), *by_class)
        alpha = self._alpha[: len(x)].expand_as(semi_y).flatten()
        return ss_dgm_terms(bounds, logits, semi_y.flatten(), alpha).view(semi_y.shape)

    def _features(self, x: Tensor, noise: Sequence[Tensor]) -> Tensor:
        if self._m1 is None:
            return x
        mean, log_var = vectorized(self._m1, {name: of[: len(x)] for name, of in self._weights_of_m1.items()}, x)
        return reparameterized(mean, log_var, *noise)


@dataclass(frozen=True)
class _Form:
    """How a class of methods is stacked.

    Attributes:
        objective: made from the modules of a stack.
        networks: the names of its networks, in the order in which the objective takes their parameters.
        agree: what replicas of one stack must agree in, beside their networks.
    """

    objective: Callable[[Any], Objective]
    networks: tuple[str, ...]
    agree: Callable[[Any], Hashable]


# By the very class: whatever a subclass changes (its loss, its score, a hook, a layer), the form here does not know it.
_FORMS: dict[type[TrainedMethod], _Form] = {
    AutoencoderModule: _Form(
        AutoencoderObjective, ("encoder", "decoder"), lambda module: ("autoencoder", module.loss, module.sigmoid)
    ),
    ClassifierModule: _Form(ClassifierObjective, ("encoder", "head"), lambda _: "classifier"),
    VAEModule: _Form(VAEObjective, ("encoder", "decoder"), lambda module: ("vae", module.log_likelihood.__name__)),
    SSDGMModule: _Form(
        SSDGMObjective,
        ("encoder", "head", "inference", "decoder"),
        lambda module: ("ss_dgm", module.log_likelihood.__name__, str(module.m1)),
    ),
    DeepSADModule: _Form(HypersphereObjective, ("encoder",), lambda module: ("hypersphere", module.eps)),
    DeepSVDDModule: _Form(HypersphereObjective, ("encoder",), lambda _: ("hypersphere", _EPS)),
    SoftBoundarySVDDModule: _Form(HypersphereObjective, ("encoder",), lambda _: ("hypersphere", _EPS)),
}


def networks_of(module: TrainedMethod) -> list[nn.Module]:
    """The networks of a method in the order in which its objective takes their parameters."""
    return [getattr(module, name) for name in _FORMS[type(module)].networks]


def kind_of(module: TrainedMethod) -> Hashable:
    """What replicas of one stack must agree in, beside the shapes of their parameters.

    Raises:
        ValueError: if the module cannot be stacked; says why.
    """
    form, name = _FORMS.get(type(module)), type(module).__name__
    if form is None:
        raise ValueError(f"{name} has no stacked form")
    networks = networks_of(module)
    for network in [*networks, *([module.m1] if isinstance(module, SSDGMModule) and module.m1 is not None else [])]:
        require_stackable(network)
    if not all(parameter.requires_grad for network in networks for parameter in network.parameters()):
        raise ValueError(f"a part of {name} is frozen")
    return form.agree(module)


def objective_of(modules: Sequence[TrainedMethod]) -> Objective:
    """The objective of replicas of one kind."""
    return _FORMS[type(modules[0])].objective(modules)
