"""Semi-supervised deep generative models (appendix C): M2, and M1+M2, which is M2 on the latent variables of M1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Share, Width, Widths, require
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


def log_priors(anomaly_prior: float | str) -> tuple[float, float]:
    """log p(y) of the classes normal and anomaly; ``uniform``: both are equally probable."""
    share = 1 / CLASSES if isinstance(anomaly_prior, str) else anomaly_prior
    return math.log(1 - share), math.log(share)


def class_bounds(
    log_likelihood: Likelihood,
    features: Tensor,
    mean: Tensor,
    log_var: Tensor,
    out: Tensor,
    log_prior: tuple[float, float],
) -> Tensor:
    """The lower bound -L(x, y) of log p(x, y) for the classes normal and anomaly, shape (B, 2).

    Args:
        log_likelihood: log-likelihood of the features, given the decoder's output.
        features: the input of M2, shape (B, ...).
        mean: mean of q(z|x, y) for each class, shape (2, B, d).
        log_var: logarithm of its variances, of the same shape.
        out: the decoder's output for one z of each class, shape (2, B, D).
        log_prior: log p(y) of each class.
    """
    flat = features.flatten(1)
    of_class = [
        labeled_bound(log_likelihood(out[y], flat), gaussian_kl(mean[y], log_var[y]), log_prior[y])
        for y in range(CLASSES)
    ]
    return torch.stack(of_class, dim=1)


class SSDGMModule(GenerativeMethod):
    r"""SS-DGM: a generative model of x with a class y, known for some samples; the score is the log odds of "anomaly".

    .. math::

        \min_{\theta, \varphi} \frac{1}{n+m} \left[ \sum_{i=1}^n U(x_i) + \sum_{j=1}^m \left( L(\tilde x_j, y_j)
        - \alpha \log q_\varphi(y_j|\tilde x_j) \right) \right] + \frac{\lambda}{2} \|(\theta, \varphi)\|^2

    .. math::

        -L(x, y) = E_{q_\varphi(z|x, y)} [\log p_\theta(x|y, z)] + \log p(y) - KL(q_\varphi(z|x, y) \,\|\, p(z)),
        \qquad -U(x) = \sum_y q_\varphi(y|x) (-L(x, y)) + H(q_\varphi(y|x))

    M2 assumes that a sample x is generated from its class y, normal (0) or anomalous (1), and a latent variable z for
    all other variation. For labeled samples -L is a lower bound of log p(x, y). For unlabeled ones -L is averaged over
    y with the probabilities of the classifier q(y|x). This rewards the classifier for the class under which the model
    explains x better, so it learns from unlabeled data. The cross-entropy trains the classifier on the labels; without
    it, only U would train it. The score is the logit of "anomaly", log q(1|x) - log q(0|x).

    M1+M2 first trains a variational autoencoder (M1, :class:`~deepsad_pl.methods.vae.VAEModule`) and then M2 on its
    latent variable z1 instead of x. M1 is frozen. In training z1 is a new sample of q(z1|x) each time; for scoring it
    is the mean, so that the score is deterministic.

    Source: D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling: Semi-supervised learning with deep generative models,
    NeurIPS 2014, equations (2), (4) and (6) to (9); the competitor "SS-DGM" in appendix C of the Deep SAD paper, whose
    tables report the better of M2 and M1+M2.

    How it is trained. The classifier is phi, as for every deep method here, followed by two linear units with biases;
    for M1+M2 an MLP with batch norm, z1 -> ``hidden`` -> ``latent``, replaces phi. q(z|x, y) and p(x|y, z) are MLPs
    with softplus units and biases. Weights are initialized Glorot uniform, biases with 0 (appendix C). The expectation
    is estimated from one z per step. Both classes share its noise: each estimate stays unbiased, and the difference
    between the classes, which trains q(y|x), has less variance.

    It needs both labeled anomalies and unlabeled samples. Only labels tell the two classes apart: without them the
    objective does not change if the classes are swapped. If only anomalies are labeled (gamma_n = 0), calling every
    sample an anomaly minimizes the cross-entropy. Only the generative part counteracts this, to the extent that one
    class cannot explain the normal samples as well as two can. This depends on the data: if normal and anomalous
    samples look alike, or the normal ones form two clusters of which one is near the anomalies, y comes to mean
    something else. A few labeled normals (``scenario.gamma_n``) help much.

    Choices that the papers leave open. :math:`\alpha = 0.1 (1 - r) / r` with r the share of labeled samples, from "0.1
    N" in Kingma et al., see :func:`~deepsad_pl.methods.variational.alpha_weight`. Averaged over a batch, the
    cross-entropy then weighs about a tenth of a nat per sample, however few labels there are, while the bounds are tens
    or hundreds of nats. The prior is by default p(y = 1) = .05, since anomalies are rare in unlabeled data; with the
    uniform prior of Kingma et al. q(y|x) of normal samples stays near one half. Gaussian likelihoods (for z1 the
    likelihood is always Gaussian) have unit variance; in Kingma et al. it is learned. In M1+M2, z1 varies by about a
    unit in each direction, so z has little to explain and p(z1|y) is nearly a single Gaussian for each class.

    Differences from the code of the authors of Deep SAD, besides the likelihood and the unrestricted log variance (see
    :class:`~deepsad_pl.methods.vae.VAEModule`). There alpha is .1; the labeled and the unlabeled part of a batch are
    averaged separately, so that the weight of a labeled sample grows as labels become rarer; and a single labeled
    sample in a batch is left out. Here each sample has the weight that equation (8) gives it.

    Knobs:
        ``anomaly_prior``: p(y = 1), the share of anomalies among unlabeled samples that the model assumes, or
        ``uniform``, 1/2.
        ``hidden``, ``latent``: of M2; those of M1 are under ``pretrain``. ``lr``, ``epochs``, ``batch_size``,
        ``weight_decay``. alpha follows from ``scenario.gamma_l`` and ``scenario.gamma_n``.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`; with ``m1`` only
            the shape of its input is used.
        hidden: units of the hidden layers of q(z|x, y), at least one; p(x|y, z) mirrors them.
        latent: d, the width of z; with ``m1`` also the width of the representation.
        likelihood: distribution of x, ``bernoulli`` for data in [0, 1], else ``gaussian``; not used with ``m1``, as z1
            is Gaussian.
        labeled_share: r, the share of labeled samples in the training data, in (0, 1).
        anomaly_prior: p(y = 1), in (0, 1); ``uniform``: 1/2.
        m1: ``hidden`` and ``latent`` of the variational autoencoder whose latent variable is the input of M2; None for
            M2 on x.
        seed: seed of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.

    Attributes:
        encoder: phi.
        m1: the frozen inference network of M1, or None.

    Raises:
        ValueError: if ``labeled_share`` or ``anomaly_prior`` is not inside (0, 1), the likelihood is unknown or there
            is no hidden layer.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        hidden: Widths,
        latent: Width,
        likelihood: str,
        labeled_share: float,
        anomaly_prior: Share | Literal["uniform"] = 0.05,
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
        require(SSDGMModule.__init__, anomaly_prior=anomaly_prior)
        self.alpha = alpha_weight(labeled_share)
        self.log_prior = log_priors(anomaly_prior)
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
        """Set the mode of all parts but M1, which stays in evaluation mode."""
        super().train(mode)
        if self.m1 is not None:
            self.m1.eval()
        return self

    def start_from(self, pretrained: TrainedMethod) -> None:
        """Copy every tensor of a trained module's encoder: to M1 for M1+M2, to phi for M2.

        Args:
            pretrained: for M1+M2 a trained variational autoencoder of M1's sizes; for M2 a trained module with an
                encoder of the same network.
        """
        if self.m1 is None:
            super().start_from(pretrained)
        else:
            self.m1.load_state_dict(pretrained.encoder.state_dict(), strict=True)

    def features(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """The input of M2: x; for M1+M2 the mean of q(z1|x) or, given noise, a sample of z1, shape (B, d1)."""
        if self.m1 is None:
            return x
        mean, log_var = self.m1(x)
        return at_least_float32(mean) if noise is None else reparameterized(mean, log_var, noise)

    def logits(self, features: Tensor) -> Tensor:
        """The logits of q(y|x) for the classes normal and anomaly, shape (B, 2)."""
        return at_least_float32(self.head(self.encoder(features)))

    def bounds(self, features: Tensor, noise: Tensor) -> Tensor:
        """The bounds -L(x, y) for the classes normal and anomaly, shape (B, 2), at one z from noise of shape (B, d)."""
        mean, log_var = self.inference(features)
        out = self.decoder(reparameterized(mean, log_var, noise))
        return class_bounds(self.log_likelihood, features, mean, log_var, out, self.log_prior)

    def represent(self, x: Tensor) -> Tensor:
        """The output of phi for x or, for M1+M2, for the mean of q(z1|x), shape (B, d)."""
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
