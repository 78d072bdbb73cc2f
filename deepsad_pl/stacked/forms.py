"""How each module is stacked: by an objective written by hand for its very class, or by its own terms, vectorized."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import nn

from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
from deepsad_pl.stacked.network import stack_layers
from deepsad_pl.stacked.objectives import EPS, AutoencoderObjective, HypersphereObjective, Objective
from deepsad_pl.stacked.vectorized import VectorizedObjective, agreement_of, require_trained_by_terms


@dataclass(frozen=True)
class _Form:
    """An objective written by hand.

    Attributes:
        objective: made from the modules of a stack.
        networks: the names of its networks, which have all its parameters, in their order.
        agree: what replicas of one stack must agree in, beside their networks.
    """

    objective: Callable[[Any], Objective]
    networks: tuple[str, ...]
    agree: Callable[[Any], Hashable]


# By the very class: whatever a subclass changes, the form here does not know it.
_FORMS: dict[type[TrainedMethod], _Form] = {
    AutoencoderModule: _Form(
        AutoencoderObjective, ("encoder", "decoder"), lambda module: ("autoencoder", module.loss, module.sigmoid)
    ),
    DeepSADModule: _Form(HypersphereObjective, ("encoder",), lambda module: ("hypersphere", module.eps)),
    DeepSVDDModule: _Form(HypersphereObjective, ("encoder",), lambda _: ("hypersphere", EPS)),
    SoftBoundarySVDDModule: _Form(HypersphereObjective, ("encoder",), lambda _: ("hypersphere", EPS)),
}


@dataclass(frozen=True)
class Kind:
    """What replicas of one stack must agree in.

    Attributes:
        form: the class of their objective.
        agreed: what it is made of.
    """

    form: Callable[[Any], Objective]
    agreed: Hashable

    @property
    def is_vectorized(self) -> bool:
        """Whether replicas are computed by vectorizing their own terms."""
        return self.form is VectorizedObjective


def kind_of(module: TrainedMethod) -> Kind:
    """What replicas of one stack must agree in.

    Raises:
        ValueError: if the module cannot be stacked; says why.
    """
    if (form := _FORMS.get(type(module))) is not None:
        networks = [getattr(module, name) for name in form.networks]
        # Of other layers than ours, or with a frozen part, it is vectorized as any other method.
        with suppress(ValueError):
            _require_known(networks)
            return Kind(form.objective, (form.agree(module), str(networks)))
    require_trained_by_terms(module)
    return Kind(VectorizedObjective, agreement_of(module))


def _require_known(networks: Sequence[nn.Module]) -> None:
    for network in networks:
        stack_layers(network)
    if not all(parameter.requires_grad for network in networks for parameter in network.parameters()):
        raise ValueError("a part is frozen")
