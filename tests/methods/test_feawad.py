"""FeaWAD: the score and the loss by hand, what it takes from the autoencoder, and balanced batches."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_loops import phases_of
from planned import plan_of
from pytorch_lightning.callbacks import ModelCheckpoint
from test_lightning_habits import forked_ranks, made_data, seeded, trainer

from deepsad_pl.data.balanced_loader import BalancedLoader
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.feawad import FeaWADModule

__all__ = ["forked_ranks", "trainer"]  # fixtures


def balanced() -> AnomalyDataModule:
    data = made_data()
    data.sample("balanced")
    return data


def feawad(units: tuple[int, ...] = (4, 2), **options: Any) -> FeaWADModule:
    network = {"name": "mlp", "in_features": 4, "units": [*units]}
    return FeaWADModule(network, **{"sigmoid": False, "units": [6, 5], "lr": [1e-2], "epochs": [4], **options})


@pytest.mark.parametrize("sigmoid", [False, True])
def test_score_and_loss_by_hand(sigmoid: bool) -> None:
    module, x = feawad(sigmoid=sigmoid, margin=2.0).eval(), torch.randn(6, 4)
    semi_y = torch.tensor([0, 1, -1, -1, 0, -1])
    expected, scores = [], []
    for one, label in zip(x, semi_y, strict=True):
        code = module.encoder(one[None])[0]
        decoded = module.decoder(code[None])[0]
        residual = one - (torch.sigmoid(decoded) if sigmoid else decoded)
        error = residual.norm()
        found = torch.cat([residual / error, code])
        for i, layer in enumerate(module.scorer):
            found = layer.weight @ torch.cat([found, error[None]]) + layer.bias  # type: ignore[operator]
            found = found.clamp(min=0) if i < 2 else found
        scores.append(float(found))
        known = max(0.0, 2 - float(found)) + max(0.0, 2 - float(error))
        expected.append(known if label == -1 else abs(float(found)) + float(error))
    assert module.score(x).tolist() == pytest.approx(scores, rel=1e-4, abs=1e-6)
    assert module.terms(x, semi_y).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_perfect_reconstruction_has_a_finite_gradient() -> None:
    module = feawad()
    for part in module.decoder.parameters():
        torch.nn.init.zeros_(part)
    module.terms(torch.zeros(4, 4), torch.tensor([0, 0, -1, -1])).mean().backward()
    assert all(part.grad is None or part.grad.isfinite().all() for part in module.parameters())


def test_an_experiment_starts_from_the_whole_autoencoder() -> None:
    plan = plan_of("method=feawad", "scenario.gamma_l=0.1")
    before, phase = phases_of(plan, load_data(plan))
    phase.module.start_from(before.module)
    for part in ("encoder", "decoder"):
        ours, theirs = (getattr(one.module, part).state_dict() for one in (phase, before))
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    assert isinstance(phase.data.train_dataloader(), BalancedLoader)
    assert before.data.sampling == "shuffled"


def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(feawad), feawad()
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=balanced())
    middle = tmp_path / "epoch=1.ckpt"
    trainer(max_epochs=4).fit(resumed, datamodule=balanced(), ckpt_path=middle, weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_take_the_steps_of_one_process(trainer: Callable[..., Any]) -> None:
    states = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        # Without batch norm, whose statistics are those of a rank's own part of the batch.
        module = seeded(partial(feawad, (3,)))
        trainer(**options).fit(module, datamodule=balanced())
        states.append(module.state_dict())
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=1e-4, atol=1e-6)
