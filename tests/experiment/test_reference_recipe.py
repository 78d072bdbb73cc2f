"""recipe=reference: each setting of the authors' published code, and the slope and initial weights that it needs."""

import pytest
import torch
from planned import plan_of, problems_of
from torch import nn

from deepsad_pl.common.records import identity_hash
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.networks.description import build_decoder, build_encoder

MNIST = ("dataset=mnist", "recipe=reference")


def slopes(network: nn.Module) -> set[float]:
    return {layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)}


@pytest.mark.parametrize("dataset", ["mnist", "fmnist", "cifar10"])
def test_the_settings_are_those_of_the_published_code(dataset: str) -> None:
    plan = plan_of(f"dataset={dataset}", "recipe=reference")
    method = plan.method
    assert (method.arguments["lr"], method.epochs, method.batch_size) == ([1e-4, 1e-5], [50, 100], 128)
    assert method.arguments["weight_decay"] == 0.5e-6
    assert method.arguments["center_from"] == "all"
    assert plan.dataset.network.arguments["leakiness"] == 0.01
    assert plan.dataset.network.arguments["initial_weights"] == "torch"
    # Their code trains an autoencoder, but none of its weights gets into phi.
    assert plan.pretrain is None


def test_only_these_settings_differ_from_the_paper_s() -> None:
    reference, paper = plan_of(*MNIST).identity, plan_of("dataset=mnist", "recipe=paper", "pretrain=none").identity
    assert {key for key in paper if reference[key] != paper[key]} == {"dataset", "method"}
    network = {**reference["dataset"]["network"]}
    assert (network.pop("leakiness"), network.pop("initial_weights")) == (0.01, "torch")
    assert {**reference["dataset"], "network": network} == paper["dataset"]
    different = {key for key in paper["method"] if reference["method"][key] != paper["method"][key]}
    assert different == {"batch_size", "weight_decay", "center_from"}


def test_the_command_line_takes_precedence() -> None:
    plan = plan_of(*MNIST, "method.weight_decay=0", "recipe.batch_size=64")
    assert (plan.method.arguments["weight_decay"], plan.method.batch_size) == (0.0, 64)
    assert plan_of(*MNIST, "dataset.network.dense=[128,64]").dataset.network.arguments["dense"] == [128, 64]


def test_a_method_without_a_center_has_no_reference_recipe() -> None:
    (problem,) = problems_of("dataset=mnist", "method=classifier", "recipe=reference")
    assert "center_from" in problem


@pytest.mark.parametrize(("key", "default", "other"), [("leakiness", 0.1, 0.2), ("initial_weights", "glorot", "torch")])
@pytest.mark.parametrize("dataset", ["mnist", "cardio"])
def test_slope_and_initial_weights_are_part_of_the_identity_only_where_they_are_not_the_usual_ones(
    dataset: str, key: str, default: object, other: object
) -> None:
    def hash_of(plan: Plan) -> str:
        return identity_hash(plan.identity)

    usual = plan_of(f"dataset={dataset}")
    assert key not in usual.identity["dataset"]["network"]
    assert hash_of(plan_of(f"dataset={dataset}", f"dataset.network.{key}={default}")) == hash_of(usual)
    assert hash_of(plan_of(f"dataset={dataset}", f"dataset.network.{key}={other}")) != hash_of(usual)


NETWORKS = pytest.mark.parametrize(
    "network",
    [
        {"name": "lenet", "in_shape": [1, 8, 8], "filters": [2, 2], "dense": [4, 3]},
        {"name": "mlp", "in_features": 5, "units": [4, 3, 2]},
    ],
)


@NETWORKS
def test_encoder_and_decoder_have_the_slope(network: dict[str, object]) -> None:
    for build in (build_encoder, build_decoder):
        assert slopes(build({**network, "leakiness": 0.01})) == {0.01}
        assert slopes(build(network)) == {0.1}
        torch.manual_seed(0)
        usual = build(network).state_dict()
        torch.manual_seed(0)
        other = build({**network, "leakiness": 0.01}).state_dict()
        assert all(torch.equal(usual[key], other[key]) for key in usual)


@NETWORKS
def test_encoder_and_decoder_can_keep_the_weights_of_pytorch_s_layers(network: dict[str, object]) -> None:
    for build in (build_encoder, build_decoder):
        torch.manual_seed(0)
        made = build({**network, "initial_weights": "torch"})
        torch.manual_seed(0)
        for layer in made.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                before = layer.weight.clone()
                layer.reset_parameters()
                assert torch.equal(layer.weight, before)
        torch.manual_seed(0)
        glorot = build(network).state_dict()
        assert not any(torch.equal(value, glorot[key]) for key, value in made.state_dict().items() if "weight" in key)


def test_initial_weights_are_one_of_two() -> None:
    (problem,) = problems_of("dataset=mnist", "dataset.network.initial_weights=he")
    assert problem == "dataset.network.initial_weights is 'he'; choose one of glorot, torch"


def test_a_slope_is_not_negative() -> None:
    (problem,) = problems_of("dataset=mnist", "dataset.network.leakiness=-1")
    assert problem == "dataset.network.leakiness is -1.0; it must be a number from 0 to 1"
