"""The forward pass of many replicas of one network at once."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.lenet import LeNetDecoder, LeNetEncoder
from deepsad_pl.networks.mlp import MLP
from deepsad_pl.networks.upsampled_convolution import can_merge, pays, upsampled_convolution
from deepsad_pl.stacked.replica_norm import Rows, norm_and_leaky_relu, norm_and_leaky_relu_of_maps
from deepsad_pl.stacked.small_convolution import grouped_convolution

# (tensors of the replicas, activations) -> activations. Between layers, images have shape (B, K * C, H, W) and other
# activations (K, features, B), as torch's batch norm expects them.
Layer = Callable[["Replicas", Tensor], Tensor]

_MOMENTUM = 0.1
# By exact class, since subclasses may compute something else.
_LAYERED: tuple[type[nn.Module], ...] = (MLP, LeNetEncoder, LeNetDecoder)
_LAYERS: tuple[type[nn.Module], ...] = (
    *(nn.Linear, BatchNorm, nn.Conv2d, nn.ConvTranspose2d),
    *(nn.MaxPool2d, nn.Upsample, nn.Flatten, nn.Unflatten),
)


class Replicas:
    """The parameters and running statistics of some or all replicas, which the layers consume one after the other.

    Args:
        weights: weights of each layer that has any, shape (K, ...).
        statistics: running mean and variance of each batch norm, shape (K, C) each.
        rows: which rows of the batch are not padding.
        momentum: momentum of the running statistics.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        statistics: Sequence[tuple[Tensor, Tensor]],
        rows: Rows,
        momentum: float = _MOMENTUM,
    ) -> None:
        self.count = len(rows.sizes)
        self.rows, self.momentum = rows, momentum
        self._weights, self._statistics = iter(weights), iter(statistics)

    def weight(self) -> Tensor:
        """The weight of the next layer."""
        return next(self._weights)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance of the next batch norm."""
        return next(self._statistics)


def stack_layers(network: nn.Module) -> list[Layer]:
    """Convert the layers of one of the package's networks to layers for many replicas.

    Args:
        network: a network with ``layers``, such as :class:`~deepsad_pl.networks.lenet.LeNetEncoder`.

    Raises:
        ValueError: if a layer cannot be stacked.
    """
    layers = list(_layers_of(network))
    stacked: list[Layer] = [_to_maps if isinstance(layers[0], nn.Conv2d) else _transposed]
    for before, layer, following in zip([None, *layers], layers, [*layers[1:], None], strict=False):
        if type(layer) is nn.LeakyReLU and type(before) is BatchNorm:
            continue  # already part of the batch norm before
        if can_merge(before, layer):
            stacked[-1] = _UpsampledConvolution(before.size, stacked[-1], _stack(layer, 1.0))
            continue
        slope = float(following.negative_slope) if type(following) is nn.LeakyReLU else 1.0
        stacked.append(_stack(layer, slope))
    stacked.append(_from_maps if isinstance(layers[-1], nn.ConvTranspose2d) else _transposed)
    return stacked


def run(layers: Sequence[Layer], replicas: Replicas, x: Tensor) -> Tensor:
    """Run the layers on x of shape (K, B, ...); returns shape (K, B, ...)."""
    for layer in layers:
        x = layer(replicas, x)
    return x


def _layers_of(network: nn.Module) -> Iterator[nn.Module]:
    layers = network.layers if type(network) in _LAYERED else None
    if type(layers) is not nn.Sequential:
        raise ValueError(f"{_name(network)} has no stacked form")
    yield from layers


def _name(module: nn.Module) -> str:
    """The name of a module for messages: a layer's repr, a network's class."""
    return type(module).__name__ if list(module.children()) else str(module)


def _transposed(_: Replicas, x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def _to_maps(replicas: Replicas, x: Tensor) -> Tensor:
    _, batch, channels, height, width = x.shape
    if x.is_cuda:
        # Channels first, for which GPU kernels are faster.
        return x.transpose(0, 1).reshape(batch, replicas.count * channels, height, width)
    maps = x.permute(1, 3, 4, 0, 2).reshape(batch, height, width, replicas.count * channels)
    return maps.permute(0, 3, 1, 2)  # (B, K * C, H, W), channels last


def _from_maps(replicas: Replicas, x: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    return x.view(batch, replicas.count, -1, height, width).transpose(0, 1)  # (K, B, C, H, W)


def _stack(layer: nn.Module, slope: float) -> Layer:
    if type(layer) not in _LAYERS:
        raise ValueError(f"{layer} has no stacked form")
    match layer:
        case nn.Linear() if "bias" not in dict(layer.named_parameters()):
            return _linear
        case BatchNorm(momentum=momentum, affine=False, track_running_stats=True) if momentum == _MOMENTUM:
            return lambda replicas, x: _norm(replicas, x, layer.eps, slope)
        case nn.Conv2d() | nn.ConvTranspose2d() if _is_plain(layer):
            return _Convolution(layer)
        case nn.MaxPool2d(kernel_size=int(size), padding=0, dilation=1, ceil_mode=False) if layer.stride == size:
            return lambda _, x: F.max_pool2d(x, size)  # type: ignore[arg-type]
        case nn.Upsample(mode="nearest", size=size, scale_factor=None):
            return lambda _, x: F.interpolate(x, size=size)
        case nn.Flatten(start_dim=1, end_dim=-1):
            return lambda replicas, x: _from_maps(replicas, x).flatten(2).transpose(1, 2)
        case nn.Unflatten(dim=1, unflattened_size=shape):
            return lambda replicas, x: _to_maps(replicas, x.transpose(1, 2).reshape(*x.shape[::2], *shape))
    raise ValueError(f"{layer} has no stacked form")


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether it has no bias, stride 1, no dilation or groups, and zero padding."""
    return (
        layer.bias is None
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and (not isinstance(layer, nn.ConvTranspose2d) or layer.output_padding == (0, 0))
    )


def _linear(replicas: Replicas, x: Tensor) -> Tensor:
    return torch.bmm(replicas.weight(), x)


def _norm(replicas: Replicas, x: Tensor, eps: float, slope: float) -> Tensor:
    mean, var = replicas.statistics()
    if replicas.rows.valid is None:
        # Without padding, each channel of each replica is one channel of torch's batch norm.
        channels = x.flatten(0, 1)[None] if x.dim() == 3 else x
        running = mean.view(-1), var.view(-1)
        y = F.batch_norm(channels, *running, training=True, momentum=replicas.momentum, eps=eps)
        return F.leaky_relu(y, slope).view(x.shape) if slope != 1.0 else y.view(x.shape)
    if x.dim() == 3:
        rows, flat = replicas.rows, x.transpose(1, 2)
    elif x.is_cuda:
        y, batch_mean, batch_var, unbiased = norm_and_leaky_relu_of_maps(
            x.contiguous(), replicas.rows, eps=eps, slope=slope
        )
        _move(mean, var, batch_mean, batch_var * unbiased, replicas.momentum)
        return y
    else:
        batch, _, height, width = x.shape
        rows = replicas.rows.repeated(height * width)
        # A view of channels-last maps.
        flat = x.permute(0, 2, 3, 1).reshape(batch * height * width, replicas.count, -1).transpose(0, 1)
    y, batch_mean, batch_var = norm_and_leaky_relu(flat, rows, eps=eps, slope=slope)
    _move(mean, var, batch_mean[:, 0], (batch_var * rows.unbiased)[:, 0], replicas.momentum)
    if x.dim() == 3:
        return y.transpose(1, 2)
    return y.transpose(0, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _move(mean: Tensor, var: Tensor, batch_mean: Tensor, batch_var: Tensor, momentum: float) -> None:
    """Update the running statistics with those of a batch."""
    mean.lerp_(batch_mean, momentum)
    var.lerp_(batch_var, momentum)


class _Convolution:
    """A grouped convolution with one group per replica."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        assert isinstance(layer.padding, tuple)
        self._padding = layer.padding
        self._transposed = isinstance(layer, nn.ConvTranspose2d)
        if self._transposed:
            self._padding = tuple(size - 1 - pad for size, pad in zip(layer.kernel_size, layer.padding, strict=True))

    def __call__(self, replicas: Replicas, x: Tensor) -> Tensor:
        filters = replicas.weight()
        if self._transposed:
            # At stride 1, a transposed convolution equals a convolution with mirrored filters, which is faster on CPUs.
            filters = filters.transpose(1, 2).flip(3, 4)
        return grouped_convolution(x, filters.flatten(0, 1), self._padding, replicas.count)


class _UpsampledConvolution:
    """An upsampling and a transposed convolution, in one step where that pays.

    Args:
        size: height and width of the upsampled images.
        upsample: the upsampling alone.
        convolution: the convolution alone.
    """

    def __init__(self, size: int | tuple[int, ...] | None, upsample: Layer, convolution: Layer) -> None:
        self._size, self._upsample, self._convolution = size, upsample, convolution

    def __call__(self, replicas: Replicas, x: Tensor) -> Tensor:
        if pays(x, self._size):
            return upsampled_convolution(x, replicas.weight())
        return self._convolution(replicas, self._upsample(replicas, x))
