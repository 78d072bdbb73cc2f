"""Choose how a module is stacked: by a hand-written objective for its class, or by vectorizing its own ``terms``."""

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
    """A hand-written objective.

    Attributes:
        objective: class of the objective, constructed from the modules of a stack.
        networks: names of the module's networks, which together contain all its parameters, in order.
        agree: settings that must be equal within a stack, in addition to the networks.
    """

    objective: Callable[[Any], Objective]
    networks: tuple[str, ...]
    agree: Callable[[Any], Hashable]


# By exact class, since a subclass may change what the form assumes.
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
    """What must be equal in all replicas of a stack.

    Attributes:
        form: class of their objective.
        agreed: structure and settings of the module.
    """

    form: Callable[[Any], Objective]
    agreed: Hashable

    @property
    def is_vectorized(self) -> bool:
        """Whether replicas are computed by vectorizing the method's own ``terms``."""
        return self.form is VectorizedObjective


def kind_of(module: TrainedMethod) -> Kind:
    """What must be equal in all replicas of a stack.

    Raises:
        ValueError: if the module cannot be stacked; gives the reason.
    """
    if (form := _FORMS.get(type(module))) is not None:
        networks = [getattr(module, name) for name in form.networks]
        # With unknown layers or frozen parameters, it is vectorized like any other method.
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
