"""Base class of the methods that draw noise in training."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepsad_pl.common.ranges import Length, NonNegative, Positive
from deepsad_pl.methods.base import TrainedMethod


def noise_generator(seed: int, epoch: int, rank: int, device: torch.device) -> torch.Generator:
    """The random generator for a rank's noise in an epoch; it depends only on the arguments.

    Args:
        seed: seed of the run's noise, >= 0.
        epoch: number of the epoch, counted from 0.
        rank: rank of this process.
        device: where the noise is drawn.
    """
    # SeedSequence ignores trailing zeros: without + 1, rank 0 would get the stream (seed, epoch) of the shuffling.
    state = int(np.random.SeedSequence([seed, epoch, rank + 1]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state % 2**63)


class NoisyMethod(TrainedMethod):
    """Base class of methods that draw noise in training; each epoch has its own stream, derived from the seed.

    torch's global generator is neither used nor changed, and a run that resumes at the end of an epoch draws the same
    noise as an uninterrupted one. A subclass draws in :meth:`draw` and computes its loss in :meth:`terms_given`.

    Args:
        seed: seed of the noise, >= 0.
        lr: learning rate of each phase.
        epochs: number of epochs of each phase.
        weight_decay: lambda.
    """

    graph = "terms_given"

    def __init__(
        self, *, seed: int, lr: Sequence[Positive], epochs: Sequence[Length], weight_decay: NonNegative
    ) -> None:
        super().__init__(lr=lr, epochs=epochs, weight_decay=weight_decay)
        self.seed = seed
        self._generator: torch.Generator | None = None

    def start_noise(self, epoch: int, rank: int = 0) -> None:
        """Start the noise stream of an epoch.

        Args:
            epoch: number of the epoch, counted from 0.
            rank: rank of this process.
        """
        self._generator = noise_generator(self.seed, epoch, rank, self.device)

    def stream(self) -> torch.Generator:
        """The noise stream of this epoch; before :meth:`start_noise` that of the first epoch."""
        if self._generator is None or self._generator.device != self.device:
            self._generator = noise_generator(self.seed, 0, 0, self.device)
        return self._generator

    def noise(self, *shape: int) -> Tensor:
        """Draw standard normal noise, float32."""
        return torch.randn(shape, generator=self.stream(), device=self.device)

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        """The loss of each sample with newly drawn noise, shape (B,)."""
        # A compiled graph cannot draw from the method's own generator.
        return self.terms_given(x, semi_y, *self.draw(len(x)))

    @abstractmethod
    def terms_given(self, x: Tensor, semi_y: Tensor, *noise: Tensor) -> Tensor:
        """The loss of each sample, shape (B,), for the noise that :meth:`draw` returned."""
