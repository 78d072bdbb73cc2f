"""The variational autoencoder, M1 of the semi-supervised deep generative models, and their common randomness."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.ranges import AtLeast1, Length, NonNegative, Positive, Widths
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.losses import at_least_float32
from deepsad_pl.methods.variational import LIKELIHOODS, gaussian_kl, reparameterized
from deepsad_pl.networks.generative import Decoder, GaussianEncoder, input_width


def noise_generator(seed: int, epoch: int, rank: int, device: torch.device) -> torch.Generator:
    """The source of a rank's noise in an epoch, which depends on nothing else.

    Args:
        seed: of the run's noise, >= 0.
        epoch: from 0.
        rank: of this process.
        device: where the noise is drawn.
    """
    # A SeedSequence ignores zeros at the end: rank 0 would get the stream of (seed, epoch), that of the shuffling.
    state = int(np.random.SeedSequence([seed, epoch, rank + 1]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state % 2**63)


class GenerativeMethod(TrainedMethod):
    """A method that draws noise in training, anew each epoch from its own seed.

    torch's global generator is neither read nor moved, and a run that resumes at the end of an epoch meets the noise
    that an undisturbed one does.

    Args:
        likelihood: ``bernoulli`` for data in [0, 1], else ``gaussian``.
        noise_widths: how many numbers of noise a sample needs for each thing that is drawn, in their order.
        seed: of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: length of each phase.
        weight_decay: lambda.

    Raises:
        ValueError: if there is no such likelihood.
    """

    graph = "terms_given"

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
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {likelihood!r}, but it must be one of {', '.join(LIKELIHOODS)}")
        self.log_likelihood = LIKELIHOODS[likelihood]
        self.noise_widths = tuple(noise_widths)
        self.seed = seed
        self._generator: torch.Generator | None = None

    def start_noise(self, epoch: int, rank: int = 0) -> None:
        """Let the next noise be the first of an epoch.

        Args:
            epoch: from 0.
            rank: of this process.
        """
        self._generator = noise_generator(self.seed, epoch, rank, self.device)

    def noise(self, *shape: int) -> Tensor:
        """Standard normal noise, float32; outside a Trainer that of the first epoch."""
        if self._generator is None or self._generator.device != self.device:
            self._generator = noise_generator(self.seed, 0, 0, self.device)
        return torch.randn(shape, generator=self._generator, device=self.device)

    def draw(self, size: int) -> tuple[Tensor, ...]:
        """The noise of a batch, shape (B, width) for each of ``noise_widths``."""
        return tuple(self.noise(size, width) for width in self.noise_widths)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample at noise drawn for it, shape (B,)."""
        # No compiled graph can draw from a generator of its own.
        return self.terms_given(x, semi_y, *self.draw(len(x)))

    @abstractmethod
    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The loss of each sample, shape (B,), at the noise of shape (B, width) for each of ``noise_widths``."""


class VAEModule(GenerativeMethod):
    r"""A variational autoencoder, the model M1 of Kingma et al.; the score is the negative evidence lower bound.

    .. math::

        \min_{\theta, \varphi} \frac{1}{n} \sum_{i=1}^n \left[ -E_{q_\varphi(z|x_i)} [\log p_\theta(x_i|z)]
        + KL(q_\varphi(z|x_i) \,\|\, p(z)) \right] + \frac{\lambda}{2} \|(\theta, \varphi)\|^2

    with the prior p(z) = N(0, I), the inference network :math:`q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x)))` and the
    generative network p(x|z): Bernoulli pixels, or a Gaussian of unit variance around its output. Each bracket is an
    upper bound of -log p(x). The expectation is estimated from one sample :math:`z = \mu + \sigma \varepsilon` a step;
    the divergence is exact.

    The score is the bracket at :math:`z = \mu(x)`, reconstruction error plus divergence, which involves no chance. The
    representation is :math:`\mu(x)`.

    Source: D. P. Kingma, D. J. Rezende, S. Mohamed, M. Welling: Semi-supervised learning with deep generative models,
    NeurIPS 2014, equations (1), (3) and (5). In appendix C of the Deep SAD paper it is the first stage of the
    competitor "SS-DGM", see :class:`~deepsad_pl.methods.ss_dgm.SSDGMModule`, which keeps its inference network as fixed
    features.

    How it is trained. As Kingma's networks, both are MLPs with softplus units on the flattened input, whatever phi is:
    inputs -> ``hidden`` -> z, and back through ``hidden`` in reverse. They have biases, as nothing can collapse into a
    center here, which start at 0; weights start uniform after Glorot, as for every deep method (appendix C), but for
    those of the log variance, which start at 0. The noise
    comes from the method's own seed, each epoch's from the seed, the epoch and the rank.

    What it sees. As pre-training it sees what its method may see: all rows, or none of the labeled anomalies with
    ``pretrain.data=unlabeled``. Labels are never looked at.

    What departs from the code of the authors of Deep SAD. There the network's output passes a softplus and then counts
    as log variance, so that no posterior is narrower than its prior (:math:`\sigma \geq 1`) and z can carry next to no
    information; here the log variance is free, and starts at 0 for every input, as outliers in a table would otherwise
    begin with an astronomical loss. There the likelihood is always Bernoulli, also of z-scored
    columns, where it is no likelihood and falls without bound; here tables have the Gaussian one.

    What departs from Kingma et al. The variance of a Gaussian p(x|z) is fixed to 1 instead of learned, which would
    let the density of columns with few values grow without bound. Coordinates of z that explain less than a unit of
    variance stay unused then: their posterior is the prior.

    Knobs:
        ``hidden``: units of the hidden layers. ``latent``: the width of z, which M2 works on. ``lr``, ``epochs``,
        ``batch_size``, ``weight_decay``. Loss and score count in nats and sum over the D inputs, so they are hundreds
        of times those of the autoencoder; Adam does not mind.

    Args:
        network: phi as a plain mapping, see :func:`~deepsad_pl.networks.description.build_encoder`, for the shape of
            its input alone.
        hidden: units of the inference network's hidden layers, at least one; the generative network mirrors them.
        latent: d, the width of z.
        likelihood: ``bernoulli`` for data in [0, 1], else ``gaussian``.
        seed: of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: length of each phase.
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
        latent: AtLeast1,
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
        """The negative bound of each sample at one sample of z, whatever its label, shape (B,)."""
        (of_z,) = noise
        mean, log_var = self.encoder(x)
        z = reparameterized(mean, log_var, of_z)
        return gaussian_kl(mean, log_var) - self.log_likelihood(self.decoder(z), x.flatten(1))

    def score(self, x: Tensor) -> Tensor:
        """The negative bound at the mean of q(z|x), shape (B,)."""
        mean, log_var = self.encoder(x)
        return gaussian_kl(mean, log_var) - self.log_likelihood(self.decoder(mean), x.flatten(1))
