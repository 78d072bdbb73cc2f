"""RoSAS: the loss by hand, its mixtures, and triplets alone, resumed and on two ranks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_loops import phases_of
from planned import plan_of
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy.stats import beta, kstest
from test_lightning_habits import forked_ranks, made_data, seeded, trainer
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.tuple_loader import TripletLoader
from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.rosas import RoSASModule

__all__ = ["forked_ranks", "trainer"]  # fixtures


def triplets() -> AnomalyDataModule:
    data = made_data()
    data.sample("triplets")
    return data


def rosas(units: tuple[int, ...] = (6, 4), **options: Any) -> RoSASModule:
    network = {"name": "mlp", "in_features": 4, "units": [*units]}
    return RoSASModule(network, **{"lr": [1e-2], "epochs": [4], **options})


def test_the_loss_by_hand() -> None:
    module, x = rosas(margin=2.0, seed=3).eval(), torch.randn(5, 3, 4)
    other, share = (of.flatten().tolist() for of in module.draw(5))
    flat, target = [*x.flatten(0, 1)], [-1.0, -1.0, 1.0] * 5

    def score(one: Tensor) -> Tensor:
        return module.score(one[None])[0]

    def smooth(error: Tensor) -> float:
        return float(error**2 / 2 if error.abs() < 1 else error.abs() - 0.5)

    expected = []
    for i in range(5):
        anchor, positive, negative = module.encoder(x[i])
        total = max(0.0, float((anchor - positive).norm() - (anchor - negative).norm()) + 2) / 2
        for j in range(3 * i, 3 * i + 3):
            own, k = share[j], other[j]
            mixed = score(own * flat[j] + (1 - own) * flat[k])
            total += smooth(mixed - (own * target[j] + (1 - own) * target[k])) / 6
            total += smooth(mixed - (own * score(flat[j]) + (1 - own) * score(flat[k]))) / 6
        expected.append(total)
    module.start_noise(0)
    assert module.terms(x, torch.zeros(5)).tolist() == pytest.approx(expected, rel=1e-4)


def test_shares_follow_their_beta_distribution_and_partners_are_a_permutation() -> None:
    other, share = rosas(seed=5).draw(500)
    assert sorted(other.flatten().tolist()) == list(range(1500))
    assert kstest(share.flatten().numpy().astype(np.float64), beta(0.5, 0.5).cdf).pvalue > 0.01


def test_single_samples_are_refused() -> None:
    with pytest.raises(DeepSADError, match=r"shape \(B, 3, ...\), but a batch has shape \(6, 4\)"):
        rosas().terms(torch.zeros(6, 4), torch.zeros(6))


def test_an_experiment_trains_on_triplets() -> None:
    plan = plan_of("method=rosas", "scenario.gamma_l=0.1")
    (phase,) = phases_of(plan, load_data(plan))
    assert isinstance(phase.data.train_dataloader(), TripletLoader)


def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(rosas), rosas()
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=triplets())
    middle = tmp_path / "epoch=1.ckpt"
    trainer(max_epochs=4).fit(resumed, datamodule=triplets(), ckpt_path=middle, weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_train_alike(trainer: Callable[..., Any]) -> None:
    losses = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        plain, module = trainer(max_epochs=8, **options), seeded(partial(rosas, (3,)))
        plain.fit(module, datamodule=triplets())
        losses.append(float(plain.callback_metrics["train_loss"]))
    # Each rank mixes the samples of its own part of the batch, so the losses are alike, not equal.
    assert losses[1] == pytest.approx(losses[0], rel=0.25)
