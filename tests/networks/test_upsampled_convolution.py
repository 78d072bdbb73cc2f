"""The merged upsampling and convolution equal the two layers one after the other."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.networks import upsampled_convolution as merged
from deepsad_pl.networks.description import build_decoder
from deepsad_pl.networks.lenet import LeNetDecoder

MNIST: dict[str, Any] = {"name": "lenet", "in_shape": [1, 28, 28], "filters": [8, 4], "dense": [32]}


def one_after_the_other(x: Tensor, weight: Tensor) -> Tensor:
    """The plain computation for K groups of channels, one after the other."""
    parts = zip(x.chunk(len(weight), dim=1), weight, strict=True)
    return torch.cat([F.conv_transpose2d(F.interpolate(one, scale_factor=2), w, padding=2) for one, w in parts], dim=1)


@settings(deadline=None, max_examples=40)
@given(
    replicas=st.integers(1, 3),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_equal_those_of_the_two_layers(
    replicas: int, batch: int, channels: int, filters: int, height: int, width: int, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=drawn)

    inputs = [random(batch, replicas * channels, height, width), random(replicas, channels, filters, 5, 5)]
    outer = random(batch, replicas * filters, 2 * height, 2 * width)
    ours, plain = ([one.clone().requires_grad_() for one in inputs] for _ in range(2))
    y, expected = merged.upsampled_convolution(*ours), one_after_the_other(*plain)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    y.backward(outer)
    expected.backward(outer)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_derivative_of_the_value() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(merged.upsampled_convolution, (x, weight))
    assert torch.autograd.gradgradcheck(merged.upsampled_convolution, (x, weight))


def trained_step(module: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    y = module(x)
    y.square().sum().backward()
    return y.detach(), {name: one.grad for name, one in module.named_parameters() if one.grad is not None}


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of the small images of each merged computation from now on."""
    seen: list[tuple[int, ...]] = []
    real = merged.upsampled_convolution

    def told(x: Tensor, weight: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return real(x, weight)

    monkeypatch.setattr(merged, "upsampled_convolution", told)
    return seen


@pytest.mark.parametrize(
    ("in_shape", "filters", "batch", "expected"),
    [
        ((1, 28, 28), (8, 4), 200, [(200, 4, 7, 7), (200, 8, 14, 14)]),  # MNIST
        ((3, 32, 32), (4, 3, 2), 200, [(200, 2, 4, 4), (200, 3, 8, 8), (200, 4, 16, 16)]),  # CIFAR-10's sizes
        ((1, 14, 28), (3, 2), 200, [(200, 3, 7, 14)]),  # 3 x 7 to 7 x 14 is odd
        ((1, 28, 30), (8, 4), 200, [(200, 8, 14, 15)]),  # 7 x 7 to 14 x 15 is odd
        ((1, 8, 8), (8, 4), 32, []),  # too small to pay
        ((1, 8, 8), (8, 4), 64, [(64, 8, 4, 4)]),
    ],
)
def test_a_training_decoder_merges_what_pays(
    monkeypatch: pytest.MonkeyPatch,
    in_shape: tuple[int, ...],
    filters: tuple[int, ...],
    batch: int,
    expected: list[tuple[int, ...]],
) -> None:
    torch.manual_seed(0)
    decoder = build_decoder({"name": "lenet", "in_shape": in_shape, "filters": filters, "dense": [6]}).double()
    assert isinstance(decoder, LeNetDecoder)
    plain = copy.deepcopy(decoder.layers)
    z = torch.randn(batch, 6, dtype=torch.float64)
    seen = calls_of(monkeypatch)
    y, gradients = trained_step(decoder, z)
    assert seen == expected
    reference, expected_gradients = trained_step(plain, z)
    torch.testing.assert_close(y, reference, rtol=1e-11, atol=1e-11)
    for name, gradient in expected_gradients.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(gradients[f"layers.{name}"], gradient, rtol=0, atol=1e-10 * max(scale, 1.0))


def test_an_evaluated_decoder_computes_its_layers_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, z = build_decoder(MNIST).eval(), torch.randn(200, 32)
    seen = calls_of(monkeypatch)
    assert torch.equal(decoder(z), decoder.layers(z))  # type: ignore[operator]
    assert not seen


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 3, padding=1, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 7, padding=3, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 5, padding=2)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 5, padding=1, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 2, 5, padding=2, groups=2, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 5, padding=4, dilation=2, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 5, padding=2, stride=2, bias=False)),
        (nn.Upsample((28, 28)), nn.ConvTranspose2d(2, 3, 5, padding=2, stride=2, output_padding=1, bias=False)),
        (nn.Upsample((28, 28), mode="bilinear"), nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False)),
        (nn.Upsample(scale_factor=2), nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False)),
        (nn.Upsample((42, 42)), nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False)),
        (nn.Upsample((28, 28)), nn.Conv2d(2, 3, 5, padding=2, bias=False)),
        (nn.Upsample((28, 28)), nn.LeakyReLU(), nn.ConvTranspose2d(2, 3, 5, padding=2, bias=False)),
        (nn.Upsample((28, 28)), nn.Upsample((56, 56))),
        (nn.Upsample((28, 28)),),
    ],
    ids=str,
)
def test_other_layers_are_applied_as_they_are(monkeypatch: pytest.MonkeyPatch, layers: tuple[nn.Module, ...]) -> None:
    seen = calls_of(monkeypatch)
    x = torch.randn(6, 2, 14, 14)
    assert torch.equal(merged.run_merged(nn.Sequential(*layers), x), nn.Sequential(*layers)(x))
    assert not seen


def test_weights_have_the_names_and_shapes_of_the_layers() -> None:
    state = build_decoder(MNIST).state_dict()
    weights = {name: tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")}
    assert weights == {"layers.0.weight": (196, 32), "layers.5.weight": (4, 8, 5, 5), "layers.9.weight": (8, 1, 5, 5)}


def test_single_precision_agrees_up_to_rounding() -> None:
    torch.manual_seed(0)
    decoder, z = build_decoder(MNIST), torch.randn(200, 32)
    y, expected = decoder(z), decoder.layers(z)  # type: ignore[operator]
    assert not torch.equal(y, expected)
    torch.testing.assert_close(y, expected, rtol=0, atol=4e-6 * expected.abs().max().item())


def test_bf16_autocast_rounds_as_little_as_that_of_the_layers() -> None:
    torch.manual_seed(0)
    decoder, z = build_decoder(MNIST), torch.randn(200, 32)
    exact = decoder.layers(z)  # type: ignore[operator]
    with torch.autocast("cpu", torch.bfloat16):
        y, plain = decoder(z), decoder.layers(z)  # type: ignore[operator]
    assert y.dtype == plain.dtype == torch.bfloat16
    assert (y - exact).abs().mean() <= 1.2 * (plain - exact).abs().mean()


def test_a_step_can_be_vectorized_over_replicas() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(3, 2, 4, 5, 5).double(), torch.randn(3, 1, 4, 2, 5, 5).double()

    def loss(weight: Tensor, images: Tensor) -> Tensor:
        return merged.upsampled_convolution(images, weight).square().mean()

    together = torch.func.vmap(torch.func.grad(loss))(weights, x)
    for i in range(3):
        torch.testing.assert_close(together[i], torch.func.grad(loss)(weights[i], x[i]), rtol=1e-12, atol=1e-12)


def test_a_training_autoencoder_can_be_exported() -> None:
    torch.manual_seed(0)
    module, x = AutoencoderModule(MNIST, sigmoid=True), torch.rand(200, 1, 28, 28)
    program = torch.export.export(module.decoder.train(), (module.encoder(x).detach(),))
    assert any("pixel_shuffle" in str(node.target) for node in program.graph.nodes)
    z = torch.randn(200, 32)
    torch.testing.assert_close(program.module()(z), module.decoder(z), rtol=1e-5, atol=1e-5)
