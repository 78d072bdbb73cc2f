"""The networks of appendix B exactly: no bias, mirrored decoders, the same initialization for all."""

import copy
import math
from typing import Any

import pytest
import torch
from planned import settings_of
from torch import nn

from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.description import build_decoder, build_encoder

SHAPES: dict[str, tuple[int, ...]] = {
    "mnist": (1, 28, 28),
    "fmnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "digits": (1, 8, 8),
    "arrhythmia": (274,),
    "cardio": (21,),
    "satellite": (36,),
    "satimage-2": (36,),
    "shuttle": (9,),
    "thyroid": (6,),
}
# Sizes of all weights of phi, from the text of appendix B ("same" convolutions, 2 x 2 pooling after each).
WEIGHTS = {
    "mnist": [8 * 1 * 25, 4 * 8 * 25, 32 * 4 * 7 * 7],
    "fmnist": [16 * 1 * 25, 32 * 16 * 25, 64 * 32 * 7 * 7, 32 * 64],
    "cifar10": [32 * 3 * 25, 64 * 32 * 25, 128 * 64 * 25, 128 * 128 * 4 * 4],
    "arrhythmia": [274 * 128, 128 * 64, 64 * 32],
    "cardio": [21 * 32, 32 * 16, 16 * 8],
    "satellite": [36 * 32, 32 * 16, 16 * 8],
    "satimage-2": [36 * 32, 32 * 16, 16 * 8],
    "shuttle": [9 * 32, 32 * 16, 16 * 8],
    "thyroid": [6 * 32, 32 * 16, 16 * 4],
}


def network_of(dataset: str) -> dict[str, Any]:
    network = dict(settings_of(f"dataset={dataset}")["dataset"]["network"])
    shape = SHAPES[dataset]
    return network | ({"in_shape": list(shape)} if len(shape) == 3 else {"in_features": shape[0]})


@pytest.mark.parametrize("dataset", WEIGHTS)
def test_encoder_has_the_layers_of_appendix_b(dataset: str) -> None:
    encoder = build_encoder(network_of(dataset))
    assert [p.numel() for p in encoder.parameters()] == WEIGHTS[dataset]


@pytest.mark.parametrize("dataset", SHAPES)
def test_no_bias_and_no_learned_shift_anywhere(dataset: str) -> None:
    network = AutoencoderModule(network_of(dataset), sigmoid=False)
    assert not [name for name, _ in network.named_parameters() if "bias" in name]
    norms = [m for m in network.modules() if isinstance(m, BatchNorm)]
    assert norms
    assert all(not m.affine and m.eps == 1e-4 for m in norms)
    leaks = [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)]
    assert leaks
    assert set(leaks) == {0.1}


@pytest.mark.parametrize("dataset", SHAPES)
def test_decoder_mirrors_the_encoder(dataset: str) -> None:
    network = network_of(dataset)
    x = torch.rand(3, *SHAPES[dataset])
    assert AutoencoderModule(network, sigmoid=True).reconstruct(x).shape == x.shape
    encoder, decoder = build_encoder(network), build_decoder(network)
    assert [p.numel() for p in decoder.parameters()] == [p.numel() for p in encoder.parameters()][::-1]


def test_pooling_before_activation_gives_the_same_bits_as_after() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(network_of("mnist"))
    layers = list(copy.deepcopy(encoder.layers))  # type: ignore[arg-type]
    for i, layer in enumerate(layers[1:], start=1):
        if isinstance(layer, nn.LeakyReLU) and isinstance(layers[i - 1], nn.MaxPool2d):
            layers[i - 1 : i + 1] = layers[i], layers[i - 1]
    as_in_appendix_b = nn.Sequential(*layers)
    names = [type(layer).__name__ for layer in as_in_appendix_b]
    assert names == [*["Conv2d", "BatchNorm", "LeakyReLU", "MaxPool2d"] * 2, "Flatten", "Linear"]
    # Black margins make ties.
    x = torch.rand(20, 1, 28, 28) * (torch.rand(20, 1, 28, 28) > 0.7)
    x[..., :5] = 0
    found, expected = encoder(x), as_in_appendix_b(x)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(encoder.parameters(), as_in_appendix_b.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_zero_input_is_mapped_to_zero_in_evaluation_mode() -> None:
    for dataset, shape in SHAPES.items():
        encoder = build_encoder(network_of(dataset)).eval()
        assert not encoder(torch.zeros(2, *shape)).any(), dataset


def test_the_sigmoid_is_used_only_for_the_unit_interval() -> None:
    network, x = network_of("cardio"), torch.randn(64, 21)
    autoencoder = AutoencoderModule(network, sigmoid=True)
    out = autoencoder.reconstruct(x)
    assert out.min() > 0
    assert out.max() < 1
    autoencoder.sigmoid = False
    assert torch.equal(autoencoder.reconstruct(x), autoencoder.logits(x))
    assert autoencoder.reconstruct(x).min() < 0


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (64, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_cifar_lenet_takes_any_size(size: tuple[int, int], channels: int) -> None:
    network = {"name": "lenet", "in_shape": [channels, *size], "filters": [32, 64, 128], "dense": [128]}
    x = torch.rand(2, channels, *size)
    assert AutoencoderModule(network, sigmoid=True).reconstruct(x).shape == x.shape


def test_an_image_that_is_too_small_is_refused() -> None:
    network = {"name": "lenet", "in_shape": [1, 7, 7], "filters": [4, 4, 4], "dense": [8]}
    with pytest.raises(ValueError, match="too small"):
        build_encoder(network)


def test_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="'resnet' is unknown"):
        build_encoder({"name": "resnet"})


def test_weights_are_glorot_uniform() -> None:
    torch.manual_seed(0)
    for layer in [*build_encoder(network_of("cifar10")).modules(), *build_decoder(network_of("cifar10")).modules()]:
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        field = layer.weight[0, 0].numel()
        fans = (layer.weight.shape[0] + layer.weight.shape[1]) * field
        bound = math.sqrt(6 / fans)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("shape", [(16, 5), (8, 5, 3, 3)])
def test_batch_norm_equals_torchs_own_in_one_process(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5, eps=1e-4, affine=False)
    ours = BatchNorm(5)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
