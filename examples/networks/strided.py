"""A custom network: an encoder of strided convolutions, and the decoder that mirrors it for pre-training."""

from torch import Tensor, nn

from deepsad_pl.common.ranges import AtLeast1


class StridedEncoder(nn.Module):
    """phi without bias terms: (B, C, H, W) -> (B, width); H and W must be multiples of 4."""

    def __init__(self, in_shape: list[int], filters: AtLeast1 = 16, width: AtLeast1 = 32) -> None:
        super().__init__()
        channels, height, w = in_shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, filters, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(filters, 2 * filters, 4, stride=2, padding=1, bias=False),
            nn.Flatten(),
            nn.Linear(2 * filters * (height // 4) * (w // 4), width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class StridedDecoder(nn.Module):
    """The mirrored decoder: (B, width) -> (B, C, H, W)."""

    def __init__(self, in_shape: list[int], filters: AtLeast1 = 16, width: AtLeast1 = 32) -> None:
        super().__init__()
        channels, *size = in_shape
        maps = (2 * filters, size[0] // 4, size[1] // 4)
        layers = [nn.Linear(width, maps[0] * maps[1] * maps[2], bias=False), nn.Unflatten(1, maps)]
        for before, after in ((2 * filters, filters), (filters, channels)):
            layers += [nn.LeakyReLU(0.1), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)
