"""The variational autoencoder (M1 of Kingma et al.), and the base class of the variational methods."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive, Width, Widths
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.methods.noise import NoisyMethod
from deepsad_pl.methods.variational import LIKELIHOODS, gaussian_kl, reparameterized
from deepsad_pl.networks.generative import Decoder, GaussianEncoder, input_width


class GenerativeMethod(NoisyMethod):
    """Base class of variational methods, which draw noise of a fixed width for every sample.

    Args:
        likelihood: ``bernoulli`` for data in [0, 1], else ``gaussian``.
        noise_widths: for each random variable, the number of noise values that a sample needs.
        seed: seed of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.

    Raises:
        ValueError: if the likelihood is unknown.
    """

    def __init__(
        self,
        *,
        likelihood: str,
        noise_widths: Sequence[int],
        seed: int,
        lr: Sequence[Positive],
        epochs: Sequence[Length],
        weight_decay: NonNegative,
    ) -> None:
        super().__init__(seed=seed, lr=lr, epochs=epochs, weight_decay=weight_decay)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {likelihood!r}, but it must be one of {', '.join(LIKELIHOODS)}")
        self.log_likelihood = LIKELIHOODS[likelihood]
        self.noise_widths = tuple(noise_widths)

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """Draw the noise of a batch: a tensor of shape (B, width) for each of ``noise_widths``."""
        return tuple(self.noise(size, width) for width in self.noise_widths)


class VAEModule(GenerativeMethod):
    r"""A variational autoencoder, the model M1 of Kingma et al.; the score is the negative evidence lower bound.

    .. math::

        \min_{\theta, \varphi} \frac{1}{n} \sum_{i=1}^n \left[ -E_{q_\varphi(z|x_i)} [\log p_\theta(x_i|z)]
        + KL(q_\varphi(z|x_i) \,\|\, p(z)) \right] + \frac{\lambda}{2} \|(\theta, \varphi)\|^2

    with the prior p(z) = N(0, I), the inference network :math:`q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x)))` and the
    generative network p(x|z): Bernoulli pixels, or a Gaussian of unit variance around its output. Each bracket is an
    upper bound of -log p(x). The expectation is estimated from one sample :math:`z = \mu + \sigma \varepsilon` per
    step; the divergence is exact.

    The score is the bracket at :math:`z = \mu(x)`, reconstruction error plus divergence, so it is deterministic. The
    representation is :math:`\mu(x)`.

    Source: D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling: Semi-supervised learning with deep generative models,
    NeurIPS 2014, equations (1), (3) and (5). In appendix C of the Deep SAD paper it is the first stage of the
    competitor "SS-DGM", see :class:`~deepsad_pl.methods.ss_dgm.SSDGMModule`, which uses its frozen inference network as
    features.

    How it is trained. As in Kingma et al., both networks are MLPs with softplus units on the flattened input, whatever
    phi is: inputs -> ``hidden`` -> z, and back through ``hidden`` in reverse. They have biases, since there is no
    center to collapse into. Weights are initialized Glorot uniform as for every deep method (appendix C), biases and
    the weights of the log variance with 0. The noise of an epoch depends on the method's own seed, the epoch and the
    rank.

    Training data. As pre-training it is trained on all rows, or with ``pretrain.data=unlabeled`` on all rows but the
    labeled anomalies. Labels are never used.

    Differences from the code of the authors of Deep SAD. There the network's output passes a softplus and is then used
    as log variance, so that no posterior is narrower than the prior (:math:`\sigma \geq 1`) and z can carry almost no
    information. Here the log variance is unrestricted and starts at 0 for every input; otherwise outliers in a table
    would start with an astronomical loss. There the likelihood is always Bernoulli, even for z-scored columns, for
    which it is not a likelihood and the loss falls without bound; here tables have a Gaussian likelihood.

    Difference from Kingma et al. The variance of a Gaussian p(x|z) is fixed to 1. If it were learned, the density of
    columns with few distinct values could grow without bound. With the fixed variance, coordinates of z that explain
    less than a unit of variance stay unused: their posterior is the prior.

    Knobs:
        ``hidden``: units of the hidden layers. ``latent``: the width of z, which is the input of M2. ``lr``,
        ``epochs``, ``batch_size``, ``weight_decay``. Loss and score are in nats, summed over the D inputs, so they are
        hundreds of times those of the autoencoder; Adam is insensitive to this scale.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`; only the shape of
            its input is used.
        hidden: units of the inference network's hidden layers, at least one; the generative network mirrors them.
        latent: d, the width of z.
        likelihood: ``bernoulli`` for data in [0, 1], else ``gaussian``.
        seed: seed of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.

    Attributes:
        encoder: the inference network, x -> (mean, log variance).
    """

    uses_semi_labels = False

    def __init__(
        self,
        network: Mapping[str, Any],
        *,
        hidden: Widths,
        latent: Width,
        likelihood: str,
        seed: int = 0,
        lr: Sequence[Positive] = (1e-4, 1e-5),
        epochs: Sequence[Length] = (50, 100),
        weight_decay: NonNegative = 1e-6,
    ) -> None:
        super().__init__(
            likelihood=likelihood, noise_widths=[latent], seed=seed, lr=lr, epochs=epochs, weight_decay=weight_decay
        )
        self.save_hyperparameters()
        width = input_width(network)
        self.encoder = GaussianEncoder(width, hidden, latent)
        self.decoder = Decoder(latent, hidden[::-1], width)

    def represent(self, x: Tensor) -> Tensor:
        """The mean of q(z|x), shape (B, d)."""
        mean, _ = self.encoder(x)
        return at_least_float32(mean)

    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The negative bound of each sample x, estimated with one z, whatever the label, shape (B,)."""
        (of_z,) = noise
        mean, log_var = self.encoder(x)
        z = reparameterized(mean, log_var, of_z)
        return gaussian_kl(mean, log_var) - self.log_likelihood(self.decoder(z), x.flatten(1))

    def score(self, x: Tensor) -> Tensor:
        """The negative bound at the mean of q(z|x), shape (B,)."""
        mean, log_var = self.encoder(x)
        return gaussian_kl(mean, log_var) - self.log_likelihood(self.decoder(mean), x.flatten(1))
