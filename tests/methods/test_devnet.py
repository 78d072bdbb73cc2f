"""DevNet: the deviation loss by hand, a plain loop, balanced batches alone, resumed and on two ranks."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loops import SHORT, fit, phases_of, plain_loop
from planned import plan_of
from pytorch_lightning.callbacks import ModelCheckpoint
from test_lightning_habits import forked_ranks, made_data, seeded, trainer
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.balanced_loader import BalancedLoader
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.devnet import DevNetModule, deviation_terms
from deepsad_pl.methods.noise import noise_generator

__all__ = ["forked_ranks", "trainer"]  # fixtures

WORDS = ("method=devnet", "scenario.gamma_l=0.1", *(word for word in SHORT if "pretrain" not in word))


def balanced() -> AnomalyDataModule:
    data = made_data()
    data.sample("balanced")
    return data


def devnet(features: int = 2, units: Sequence[int] = (4, 2), **options: Any) -> DevNetModule:
    network = {"name": "mlp", "in_features": features, "units": [*units]}
    return DevNetModule(network, lr=[1e-2], epochs=[4], **options)


def test_the_loss_by_hand() -> None:
    deviation, semi_y = torch.tensor([-1.5, 2.0, 0.5, 6.0, -1.0]), torch.tensor([0, 1, -1, -1, -1])
    assert deviation_terms(deviation, semi_y, 5.0).tolist() == [1.5, 2.0, 4.5, 0.0, 6.0]


def test_deviations_are_measured_in_those_of_the_reference_scores() -> None:
    module = devnet(references=50, seed=3)
    module.start_noise(2)
    x, semi_y = torch.randn(6, 2), torch.tensor([0, -1, 0, 1, -1, 0])
    reference = torch.randn(50, generator=noise_generator(3, 2, 0, torch.device("cpu"))).double()
    mean, deviation = reference.mean(), (reference - reference.mean()).square().mean().sqrt()
    expected = [
        max(0.0, 5 - float((score - mean) / deviation)) if label == -1 else abs(float((score - mean) / deviation))
        for score, label in zip(module.score(x).tolist(), semi_y.tolist(), strict=True)
    ]
    module.start_noise(2)
    # In training mode, batch norm computes the same scores for the same batch.
    assert module.terms(x, semi_y).tolist() == pytest.approx(expected, rel=1e-5)


def test_twenty_steps_equal_a_plain_loop(tmp_path: Path) -> None:
    plan = plan_of(*WORDS, "method.weight_decay=0.01")
    (of_loop,), (of_trainer,) = (phases_of(plan, load_data(plan)) for _ in range(2))
    module = of_loop.module
    assert isinstance(module, DevNetModule)
    state = {"epoch": -1, "step": 0}

    def loss(x: Tensor, semi_y: Tensor) -> Tensor:
        epoch, step = divmod(state["step"], 5)
        if step == 0:
            generator = noise_generator(module.seed, epoch, 0, torch.device("cpu"))
            state["generator"] = generator  # type: ignore[assignment]
        state["step"] += 1
        reference = torch.randn(5000, generator=state["generator"])  # type: ignore[call-overload]
        total = torch.zeros(())
        for deviation, label in zip(
            (module.score(x) - reference.mean()) / reference.std(correction=0), semi_y, strict=True
        ):
            total = total + (torch.relu(5 - deviation) if label == -1 else deviation.abs())
        return total / len(x)

    expected = plain_loop(module, of_loop.data, loss)
    found = fit(of_trainer.module, of_trainer.data, tmp_path)
    assert len(found) == 20
    assert found == pytest.approx(expected, rel=1e-4)
    for key, tensor in module.state_dict().items():
        torch.testing.assert_close(of_trainer.module.state_dict()[key], tensor, rtol=1e-3, atol=1e-5)


def test_an_experiment_trains_on_balanced_batches() -> None:
    plan = plan_of(*WORDS)
    (phase,) = phases_of(plan, load_data(plan))
    loader = phase.data.train_dataloader()
    assert isinstance(loader, BalancedLoader)
    assert all(abs(2 * int((semi_y == -1).sum()) - len(semi_y)) <= 1 for _, semi_y, _, _ in loader)
    # Pre-training, and methods that do not ask for balanced batches, shuffle as before.
    others = phases_of(plan_of(*WORDS, "pretrain=autoencoder"), load_data(plan))
    assert [phase.data.sampling for phase in others] == ["shuffled", "balanced"]


def test_labeled_anomalies_alone_are_refused_before_training() -> None:
    data = made_data()
    data._semi_y.fill_(-1)
    with pytest.raises(DeepSADError, match="25 of 25 training samples are labeled anomalies"):
        data.sample("balanced")


def test_an_unknown_sampling_is_refused() -> None:
    with pytest.raises(DeepSADError, match="sampling is 'paired'; choose one of shuffled, balanced, pairs, triplets"):
        made_data().sample("paired")  # type: ignore[arg-type]


def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(partial(devnet, 4)), devnet(4)
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=balanced())
    middle = tmp_path / "epoch=1.ckpt"
    trainer(max_epochs=4).fit(resumed, datamodule=balanced(), ckpt_path=middle, weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_take_the_steps_of_one_process(trainer: Callable[..., Any]) -> None:
    trained = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        # Without batch norm, whose statistics are those of a rank's own part of the batch.
        plain, module = trainer(**options), seeded(partial(devnet, 4, [3]))
        plain.fit(module, datamodule=balanced())
        trained.append((float(plain.callback_metrics["train_loss"]), module.state_dict()))
    assert trained[1][0] == pytest.approx(trained[0][0], rel=1e-5)
    for key, tensor in trained[0][1].items():
        torch.testing.assert_close(trained[1][1][key], tensor, rtol=1e-4, atol=1e-6)
