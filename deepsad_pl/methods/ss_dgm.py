"""Semi-supervised deep generative models (appendix C): M2, and M2 on the latent variables of M1."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import AtLeast1, Length, NonNegative, Positive, Widths
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.methods.vae import GenerativeMethod
from deepsad_pl.methods.variational import (
    Likelihood,
    alpha_weight,
    gaussian_kl,
    labeled_bound,
    reparameterized,
    ss_dgm_terms,
)
from deepsad_pl.networks.description import build_encoder, representation_width
from deepsad_pl.networks.generative import Decoder, GaussianEncoder, input_width
from deepsad_pl.networks.glorot import glorot

CLASSES = 2


def class_bounds(log_likelihood: Likelihood, features: Tensor, mean: Tensor, log_var: Tensor, out: Tensor) -> Tensor:
    """-L(x, y) of the classes normal and anomaly, shape (B, 2).

    Args:
        log_likelihood: of the features.
        features: what is rebuilt, shape (B, ...).
        mean: of q(z|x, y), shape (2, B, d).
        log_var: logarithm of its variances, of the same shape.
        out: the decoder's output at a sample of each, shape (2, B, D).
    """
    flat = features.flatten(1)
    of_class = [labeled_bound(log_likelihood(out[y], flat), gaussian_kl(mean[y], log_var[y])) for y in range(CLASSES)]
    return torch.stack(of_class, dim=1)


class SSDGMModule(GenerativeMethod):
    r"""SS-DGM: a generative model of x with a class variable y, observed for some samples; the score is its posterior.

    .. math::

        \min_{\theta, \varphi} \frac{1}{n+m} \left[ \sum_{i=1}^n U(x_i) + \sum_{j=1}^m \left( L(\tilde x_j, y_j)
        - \alpha \log q_\varphi(y_j|\tilde x_j) \right) \right] + \frac{\lambda}{2} \|(\theta, \varphi)\|^2

    .. math::

        -L(x, y) = E_{q_\varphi(z|x, y)} [\log p_\theta(x|y, z)] + \log p(y) - KL(q_\varphi(z|x, y) \,\|\, p(z)),
        \qquad -U(x) = \sum_y q_\varphi(y|x) (-L(x, y)) + H(q_\varphi(y|x))

    M2 supposes that a class y, normal (0) or anomalous (1), and what is left of the variation, z, made the sample x.
    For labeled samples -L is a lower bound of log p(x, y). For unlabeled ones y is summed out, weighted with what the
    classifier q(y|x) believes: it is rewarded for the class under which the model explains x better, and so learns from
    unlabeled data. The cross-entropy teaches it the labels directly; without, only U would train it. The score is the
    logit of "anomaly", log q(1|x) - log q(0|x).

    M1+M2 first trains a variational autoencoder (M1, :class:`~deepsad_pl.methods.vae.VAEModule`) and then M2 on its
    latent variable z1 in place of x. M1 stays as it is. In training z1 is a sample of q(z1|x), drawn anew each time;
    for a score it is the mean, so that a sample has one score.

    Source: D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling: Semi-supervised learning with deep generative models,
    NeurIPS 2014, equations (2), (4) and (6) to (9); the competitor "SS-DGM" in appendix C of the Deep SAD paper, whose
    tables report the better of M2 and M1+M2.

    How it is trained. The classifier is phi, as for every deep method here, with two linear units (with biases); for
    M1+M2 an MLP with batch norm, z1 -> ``hidden`` -> ``latent``, takes the place of phi. q(z|x, y) and p(x|y, z) are
    MLPs with softplus units and biases. Weights start uniform after Glorot, biases at 0 (appendix C). The expectation
    is estimated from one sample of z a step. Both classes share its noise: each estimate stays unbiased, and less
    chance is left in the difference between the classes, which trains q(y|x).

    It needs labeled anomalies, and unlabeled samples. Labels are all it can go by to tell its two classes apart: the
    objective without them does not change when they swap. If only anomalies are labeled (gamma_n = 0), the
    cross-entropy alone is satisfied by "everything is an anomaly". Only the generative part counters it, as far as
    one class cannot explain normal samples as well as two can; that is a matter of the data, and where normal and
    anomalous samples look alike, or normal ones fall into two clusters of which one is near the anomalies, y comes to
    mean something else. Some labeled normals (``scenario.gamma_n``) help much.

    What is set here and left open there. :math:`\alpha = 0.1 (1 - r) / r` with r the share of labeled samples, from the
    paper's "0.1 N", see :func:`~deepsad_pl.methods.variational.alpha_weight`: over a batch the cross-entropy weighs
    about a tenth of a nat a sample, however few labels there are, next to bounds of tens or hundreds. The prior is
    uniform, p(y) = 1/2, as Kingma's: that anomalies are rare in unlabeled data is not told to the model. Gaussian
    likelihoods, that of z1 always among them, have unit variance, where Kingma's learn one.
    As z1 varies by about a unit in each direction, z has little to explain in M1+M2 and p(z1|y) is nearly one Gaussian
    for each class.

    What departs from the code of the authors of Deep SAD, beside the likelihood and the free log variance (see
    :class:`~deepsad_pl.methods.vae.VAEModule`). There alpha is .1, labeled and unlabeled parts of a batch are averaged
    apart, so that a labeled sample weighs as many times more as labels are rare, and a single labeled sample in a batch
    is left out. Here each sample has the weight it has in equation (8).

    Knobs:
        ``hidden``, ``latent``: of M2; those of M1 are under ``pretrain``. ``lr``, ``epochs``, ``batch_size``,
        ``weight_decay``. alpha follows from ``scenario.gamma_l`` and ``scenario.gamma_n``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`; with ``m1`` for
            the shape of its input alone.
        hidden: units of the hidden layers of q(z|x, y), at least one; p(x|y, z) mirrors them.
        latent: d, the width of z, and with ``m1`` that of the representation.
        likelihood: of x, ``bernoulli`` for data in [0, 1], else ``gaussian``; that of z1 is Gaussian.
        labeled_share: r, the share of labeled samples in the training data, in (0, 1).
        m1: ``hidden`` and ``latent`` of the variational autoencoder whose latent variable M2 works on, or None for M2.
        seed: of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.

    Attributes:
        encoder: phi.
        m1: the frozen inference network of M1, or None.

    Raises:
        ValueError: if ``labeled_share`` is not inside (0, 1), there is no such likelihood or no hidden layer.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        hidden: Widths,
        latent: AtLeast1,
        likelihood: str,
        labeled_share: float,
        m1: Mapping[str, Any] | None = None,
        seed: int = 0,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        of_features = likelihood if m1 is None else "gaussian"
        widths = [latent] if m1 is None else [m1["latent"], latent]
        super().__init__(
            likelihood=of_features, noise_widths=widths, seed=seed, lr=lr, epochs=epochs, weight_decay=weight_decay
        )
        self.alpha = alpha_weight(labeled_share)
        self.save_hyperparameters()
        width = input_width(network)
        self.m1: GaussianEncoder | None = None
        if m1 is not None:
            self.m1 = GaussianEncoder(width, m1["hidden"], m1["latent"]).requires_grad_(False).eval()
            width = m1["latent"]
            network = {"name": "mlp", "in_features": width, "units": [*hidden, latent]}
        self.encoder = build_encoder(network)
        self.head = glorot(nn.Linear(representation_width(network, self.encoder), CLASSES))
        self.inference = GaussianEncoder(width, hidden, latent, CLASSES)
        self.decoder = Decoder(latent, hidden[::-1], width, CLASSES)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but M1, which is only ever evaluated."""
        super().train(mode)
        if self.m1 is not None:
            self.m1.eval()
        return self

    def start_from(self, pretrained: TrainedMethod) -> None:
        """Take over every tensor of the trained inference network as M1, or for M2 of the encoder as phi.

        Args:
            pretrained: a trained variational autoencoder of M1's sizes; for M2 a module with an encoder of the same
                network.
        """
        if self.m1 is None:
            super().start_from(pretrained)
        else:
            self.m1.load_state_dict(pretrained.encoder.state_dict(), strict=True)

    def features(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """What M2 works on: x, or z1 of shape (B, d1), the mean of q(z1|x) or the sample of it that noise gives."""
        if self.m1 is None:
            return x
        mean, log_var = self.m1(x)
        return at_least_float32(mean) if noise is None else reparameterized(mean, log_var, noise)

    def logits(self, features: Tensor) -> Tensor:
        """Of q(y|x) for the classes normal and anomaly, shape (B, 2)."""
        return at_least_float32(self.head(self.encoder(features)))

    def bounds(self, features: Tensor, noise: Tensor) -> Tensor:
        """-L(x, y) at one sample of z for the classes normal and anomaly, shape (B, 2); noise of shape (B, d)."""
        mean, log_var = self.inference(features)
        out = self.decoder(reparameterized(mean, log_var, noise))
        return class_bounds(self.log_likelihood, features, mean, log_var, out)

    def represent(self, x: Tensor) -> Tensor:
        """phi of x or of the mean of q(z1|x), shape (B, d)."""
        return at_least_float32(self.encoder(self.features(x)))

    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The summands of the objective, shape (B,)."""
        *of_z1, of_z = noise
        features = self.features(x, *of_z1)
        return ss_dgm_terms(self.bounds(features, of_z), self.logits(features), semi_y, self.alpha)

    def score(self, x: Tensor) -> Tensor:
        """The logit of "anomaly", shape (B,)."""
        logits = self.logits(self.features(x))
        return logits[:, 1] - logits[:, 0]
