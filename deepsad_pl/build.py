"""From a plan to what is trained: the data, the modules with their initial weights, in the order of training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.sources import Source, load_source
from deepsad_pl.errors import DeepSADError
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.plan import Plan, image_size, lies_in_unit_interval, root_of

# Independent random streams of a run's seed.
_INIT, _SHUFFLE_PRETRAIN, _SHUFFLE_FIT = range(100, 103)


@dataclass(frozen=True)
class Phase:
    """One training: ``pretrain``, or the method's own, ``fit``."""

    name: str
    module: TrainedMethod
    data: AnomalyDataModule


def load_data(plan: Plan) -> Source:
    """The source of the plan's data set.

    Raises:
        DeepSADError: if the data cannot be had or read.
    """
    dataset = plan.dataset
    options: dict[str, Any] = {"scaling": dataset.get("scaling")}
    if "root" in dataset:
        options |= {"root": root_of(dataset), "image_size": image_size(dataset), "channels": dataset["channels"]}
    return load_source(dataset["kind"], data_dir=plan.data_dir, seed=plan.seed, **options)


def network_of(dataset: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The plain description of phi for this data: the data set's network with the shape of a sample."""
    network = dict(dataset["network"])
    if network["name"] == "mlp":
        return {**network, "in_features": source.shape[0]}
    return {**network, "in_shape": list(source.shape)}


def build_phases(plan: Plan, source: Source) -> list[Phase]:
    """The trainings of the plan, the method's own last.

    Raises:
        DeepSADError: if the scenario cannot be had from the data, or the network does not fit them.
    """
    network = network_of(plan.dataset, source)
    sigmoid = lies_in_unit_interval(plan.dataset)
    phases: list[Phase] = []

    def add(name: str, stream: int, settings: Mapping[str, Any]) -> None:
        try:
            with _seeded(plan.seed, _INIT):
                module = _module(settings, network, sigmoid)
        except ValueError as error:
            raise DeepSADError(f"dataset.network does not fit the data: {error}") from error
        data = AnomalyDataModule(
            source,
            plan.scenario,
            classes=plan.classes,
            batch_size=settings["batch_size"],
            seed=_stream(plan.seed, stream),
            labeled_anomalies=settings.get("data") != "unlabeled",
        )
        phases.append(Phase(name, module, data))

    if plan.pretrain:
        add("pretrain", _SHUFFLE_PRETRAIN, plan.pretrain)
    add("fit", _SHUFFLE_FIT, plan.method)
    counts = phases[-1].data.training_set.counts
    if plan.method.get("center_from") == "labeled_normal" and not counts.labeled_normals:
        raise DeepSADError(
            f"method.center_from is labeled_normal, but scenario.gamma_n={plan.scenario.gamma_n} labels none of "
            f"{counts.total} training rows; raise it or use unlabeled_and_normal"
        )
    return phases


def transfer_encoder(source: TrainedMethod, target: TrainedMethod) -> None:
    """Start phi from the pre-trained encoder, every tensor of it, and fail if one is missing (appendix A)."""
    target.encoder.load_state_dict(source.encoder.state_dict(), strict=True)


def _module(settings: Mapping[str, Any], network: Mapping[str, Any], sigmoid: bool) -> TrainedMethod:
    schedule = {key: settings[key] for key in ("lr", "epochs", "weight_decay")}
    if settings["name"] == "autoencoder":
        return AutoencoderModule(network, sigmoid=sigmoid, loss=settings["loss"], **schedule)
    return DeepSADModule(network, eta=settings["eta"], center_from=settings["center_from"], **schedule)


def _stream(seed: int, stream: int) -> int:
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint32)[0])


@contextmanager
def _seeded(seed: int, stream: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_stream(seed, stream))
        yield
