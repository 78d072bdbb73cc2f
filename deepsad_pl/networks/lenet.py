"""The LeNet-type networks of appendix B and their mirrored decoders. No bias term anywhere."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from deepsad_pl.common.counting import counted
from deepsad_pl.common.ranges import Odd, Slope, Widths
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.glorot import initialize
from deepsad_pl.networks.upsampled_convolution import run_merged
from deepsad_pl.networks.usual import LEAKINESS


def pooled_sizes(size: Sequence[int], modules: int) -> list[tuple[int, int]]:
    """The image size (H, W) before and after each (2 x 2) max-pooling: a list of ``modules + 1`` sizes."""
    height, width = size
    sizes = [(height, width)]
    for _ in range(modules):
        height, width = height // 2, width // 2
        sizes.append((height, width))
    if min(sizes[-1]) < 1:
        raise ValueError(
            f"images of {size[0]} x {size[1]} are too small for {counted(modules, 'pooling')}: each side needs at "
            f"least 2^{modules} pixels"
        )
    return sizes


class LeNetEncoder(nn.Module):
    """phi of appendix B: modules of convolution, batch norm, leaky ReLU and max-pooling, then dense layers.

    Args:
        in_shape: (C, H, W) of the images.
        filters: the number of filters of each module.
        dense: units of the dense layers; the last one is the representation, d, and has no activation.
        kernel_size: size of all filters, odd; zero padding keeps the image size.
        leakiness: slope of the leaky ReLUs for negative inputs.
        initial_weights: see :func:`~deepsad_pl.networks.glorot.initialize`.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        filters: Widths,
        dense: Widths,
        kernel_size: Odd = 5,
        leakiness: Slope = LEAKINESS,
        initial_weights: Literal["glorot", "torch"] = "glorot",
    ) -> None:
        super().__init__()
        channels, height, width = in_shape
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *filters]):
            layers += [
                nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2, bias=False),
                BatchNorm(after),
                # As leaky ReLU keeps the order of values, it gives the same after the pooling, on a quarter of them.
                nn.MaxPool2d(2),
                nn.LeakyReLU(leakiness),
            ]
        last = pooled_sizes((height, width), len(filters))[-1]
        layers.append(nn.Flatten())
        units = [filters[-1] * last[0] * last[1], *dense]
        for i, (before, after) in enumerate(pairwise(units)):
            layers.append(nn.Linear(before, after, bias=False))
            if i < len(dense) - 1:
                layers += [BatchNorm(after), nn.LeakyReLU(leakiness)]
        self.layers = nn.Sequential(*layers)
        initialize(self, initial_weights)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, d)."""
        return self.layers(x)  # type: ignore[no-any-return]


class LeNetDecoder(nn.Module):
    """The encoder's mirror image: dense layers, then modules of upsampling and transposed convolution (appendix C).

    Takes the encoder's arguments. The output is linear; for data in [0, 1] the autoencoder applies a sigmoid to it
    (:class:`~deepsad_pl.methods.autoencoder.AutoencoderModule`).
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        filters: Widths,
        dense: Widths,
        kernel_size: Odd = 5,
        leakiness: Slope = LEAKINESS,
        initial_weights: Literal["glorot", "torch"] = "glorot",
    ) -> None:
        super().__init__()
        channels, height, width = in_shape
        sizes = pooled_sizes((height, width), len(filters))
        units = [*reversed(dense), filters[-1] * sizes[-1][0] * sizes[-1][1]]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(units)):
            layers.append(nn.Linear(before, after, bias=False))
            if i < len(dense) - 1:
                layers += [BatchNorm(after), nn.LeakyReLU(leakiness)]
        layers += [nn.Unflatten(1, (filters[-1], *sizes[-1])), BatchNorm(filters[-1]), nn.LeakyReLU(leakiness)]
        maps = [*reversed(filters), channels]
        for i, (before, after) in enumerate(pairwise(maps)):
            layers += [
                nn.Upsample(size=sizes[-2 - i]),
                nn.ConvTranspose2d(before, after, kernel_size, padding=kernel_size // 2, bias=False),
            ]
            if i < len(filters) - 1:
                layers += [BatchNorm(after), nn.LeakyReLU(leakiness)]
        self.layers = nn.Sequential(*layers)
        initialize(self, initial_weights)

    def forward(self, z: Tensor) -> Tensor:
        """(B, d) -> (B, C, H, W)."""
        # Only in training, where a step is long enough; so scores and exported graphs stay as plain as the layers are.
        return run_merged(self.layers, z) if self.training else self.layers(z)
