"""Deep SAD (section 3.3): normal data are mapped close to a center, known anomalies away from it."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, require
from deepsad_pl.methods.hypersphere import HypersphereMethod
from deepsad_pl.methods.losses import deep_sad_terms, squared_distance


class DeepSADModule(HypersphereMethod):
    r"""Deep SAD, equation (9): one-class Deep SVDD with an additional term for labeled samples.

    .. math::

        \min_{\mathcal W} \frac{1}{n+m} \sum_{i=1}^n \|\phi(x_i; \mathcal W) - c\|^2
        + \frac{\eta}{n+m} \sum_{j=1}^m \left(\|\phi(\tilde x_j; \mathcal W) - c\|^2\right)^{\tilde y_j}
        + \frac{\lambda}{2} \sum_\ell \|W^\ell\|_F^2

    Unlabeled samples (assumed to be mostly normal) and known normal ones (:math:`\tilde y = +1`) are pulled to the
    center c, so that the latent distribution of normal data has low entropy. For known anomalies
    (:math:`\tilde y = -1`) the inverse of the squared distance is penalized: they are pushed away from the center, but
    not towards each other, since anomalies need not resemble each other. The score is the distance to the center,
    equation (4).

    Source: L. Ruff, R. A. Vandermeulen, N. Goernitz, A. Binder, E. Mueller, K.-R. Mueller, M. Kloft: Deep
    semi-supervised anomaly detection, ICLR 2020.

    How it is trained (appendix A). phi is initialized with the encoder of a pre-trained autoencoder
    (``pretrain=autoencoder``), which is trained on all rows (``pretrain.data=all``) or on all but the labeled anomalies
    (``pretrain.data=unlabeled``). Then the center is fixed, see
    :class:`~deepsad_pl.methods.hypersphere.HypersphereMethod`; coordinates closer to 0 than .1 are moved to +-.1. Bias
    terms, bounded activations or a trainable center would allow the trivial solution phi = c, so phi has no bias terms
    and no bounded activations, and the center stays fixed.

    Differences from the authors' code, which departs from the paper: there the pre-trained weights are never copied,
    labeled anomalies contribute to the center, and eps is added for labeled normals too. Here the paper is followed.

    Knobs:
        ``eta``: below 1 it emphasizes the unlabeled term, above 1 the labeled term; in the paper it has little
        influence on AUROC between .01 and 100 (figure 5). ``eta_scale``: eta weighs d² against 1/d², so what it means
        depends on the scale of phi; ``initial`` measures d² in units of its mean before the first step, over all
        samples but known anomalies, so the effect of eta does not depend on that scale. ``center_from``: ``all``
        includes labeled anomalies in the center; ``labeled_normal`` uses only labeled normals, which the paper
        suggests for polluted unlabeled data.
        ``lr``, ``epochs``: long training at a high rate collapses the representation if few anomalies are labeled; a
        warning reports this.

    Without labeled samples, every training step is that of one-class Deep SVDD.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`.
        eta: weight of the labeled terms, > 0.
        eta_scale: ``fixed``: equation (9). ``initial``: the term of known anomalies times the square of the mean
            squared distance to the center, over all samples but known anomalies, before the first step.
        center_from: which samples the center is the mean of, see
            :func:`~deepsad_pl.methods.hypersphere.center_mask`.
        eps: added to the denominator of the inverse (footnote 1).
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    eta_unit: Tensor | float

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        eta: Positive = 1.0,
        eta_scale: Literal["fixed", "initial"] = "fixed",
        center_from: Literal["unlabeled_and_normal", "all", "labeled_normal"] = "unlabeled_and_normal",
        eps: float = 1e-6,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(network, center_from=center_from, lr=lr, epochs=epochs, weight_decay=weight_decay)
        require(DeepSADModule.__init__, eta=eta, eta_scale=eta_scale)
        self.save_hyperparameters()
        self.eta, self.eps = eta, eps
        if eta_scale == "initial":
            self.register_buffer("eta_unit", torch.tensor(math.nan))
        else:
            self.eta_unit = 1.0

    def prepare(
        self, batches: Callable[[], Iterable[Any]], over_ranks: Callable[[Tensor], Tensor] = lambda total: total
    ) -> None:
        """Set the center as the base class does, then the unit of distances, unless a checkpoint has restored them."""
        super().prepare(batches, over_ranks)
        if isinstance(self.eta_unit, Tensor) and self.eta_unit.isnan():
            self.eta_unit.fill_(self._mean_distance2(batches(), over_ranks))

    @torch.no_grad()
    def _mean_distance2(self, batches: Iterable[Any], over_ranks: Callable[[Tensor], Tensor]) -> float:
        # In training mode, as the loss: random weights give batches another scale than running statistics do. On a
        # copy, since this must not move those statistics.
        encoder, total = copy.deepcopy(self.encoder).train(), torch.zeros(2, dtype=torch.float64)
        for x, semi_y in map(self.training_part, batches):
            distance2 = squared_distance(encoder(x), self.center)[semi_y >= 0].cpu().double()
            total += torch.stack([distance2.sum(), torch.tensor(float(len(distance2))).double()])
        total = over_ranks(total)
        # A distance that is not a number ends the training with its own message, in a stack that of its replica only.
        if total[0] == 0:
            raise ValueError(
                "eta_scale is 'initial', but before the first step every sample lies on the center, so there is no "
                "unit of distances; set eta_scale to 'fixed'"
            )
        return float(total[0] / total[1])

    def adapted(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of another method of this family as a state of this one; a missing unit is measured later."""
        found = super().adapted(state)
        if isinstance(self.eta_unit, Tensor):
            found["eta_unit"] = state.get("eta_unit", self.eta_unit)
        return found

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The summands of equation (9), shape (B,)."""
        return deep_sad_terms(self.distance2(x), semi_y, self.eta, self.eps, self.eta_unit)
