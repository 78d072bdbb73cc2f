"""Latent outlier exposure: the loss by hand, the share it expects, its warm-up, and two ranks."""

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

from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.deep_svdd import DeepSVDDModule
from deepsad_pl.methods.loe import LOEModule, farthest

__all__ = ["forked_ranks", "trainer"]  # fixtures


def loe(features: int = 4, units: tuple[int, ...] = (4, 2), **options: Any) -> LOEModule:
    network = {"name": "mlp", "in_features": features, "units": [*units]}
    return LOEModule(network, **{"lr": [1e-2], "epochs": [4], "expected_share": 0.25, **options})


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.19, 1), (0.2, 2), (0.99, 9)])
def test_the_farthest_samples_are_those_of_the_share(share: float, count: int) -> None:
    distance2 = torch.tensor([3.0, 1.0, 9.0, 0.5, 4.0, 2.0, 8.0, 7.0, 6.0, 5.0])
    chosen = farthest(distance2, share)
    assert sorted(distance2[chosen].tolist(), reverse=True) == sorted(distance2.tolist(), reverse=True)[:count]


@pytest.mark.parametrize(("assignment", "weight"), [("hard", 1.0), ("soft", 0.5)])
def test_the_loss_by_hand(assignment: str, weight: float) -> None:
    module = loe(assignment=assignment, warmup=1)
    module.center.fill_(0.3)
    module.eval()
    x = torch.randn(8, 4)
    near = module.distance2(x).tolist()
    module.start_noise(0)
    assert module.terms(x, torch.zeros(8)).tolist() == pytest.approx(near)
    module.start_noise(1)
    # A quarter of eight: the difference of the losses grows with the distance.
    outliers = sorted(near, key=lambda d2: 1 / d2 - d2)[:2]
    expected = [(1 - weight) * d2 + weight / (d2 + 1e-6) if d2 in outliers else d2 for d2 in near]
    assert module.terms(x, torch.zeros(8)).tolist() == pytest.approx(expected)
    assert module.score(x).tolist() == pytest.approx([d2**0.5 for d2 in near])


def test_without_contamination_it_takes_the_steps_of_deep_svdd(trainer: Callable[..., Any]) -> None:
    svdd = partial(DeepSVDDModule, loe().hparams["network"], lr=[1e-2], epochs=[4])
    states = []
    for kind in (partial(loe, expected_share=None), svdd):
        module = seeded(kind)
        trainer(max_epochs=4).fit(module, datamodule=made_data())
        states.append(module.state_dict())
    assert all(torch.equal(states[0][key], tensor) for key, tensor in states[1].items())


def test_the_share_is_that_of_the_scenario_unless_it_is_set() -> None:
    words = ("method=loe", "pretrain=none", "scenario.gamma_p=0.1")
    for more, share in (((), 0.1), (("scenario.gamma_n=0.2",), 0.08), (("method.expected_share=0.3",), 0.3)):
        plan = plan_of(*words, *more)
        (phase,) = phases_of(plan, load_data(plan))
        assert phase.module.expected_share == pytest.approx(share, rel=0.02)
        assert not (phase.data.semi_y == -1).any()


def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(loe), loe()
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=made_data())
    trainer(max_epochs=4).fit(resumed, datamodule=made_data(), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_take_the_steps_of_one_process(trainer: Callable[..., Any]) -> None:
    states = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        # Without batch norm, whose statistics are those of a rank's own part of the batch.
        module = seeded(partial(loe, units=(3,), warmup=1))
        trainer(**options).fit(module, datamodule=made_data())
        states.append(module.state_dict())
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=1e-4, atol=1e-6)


def test_hidden_anomalies_end_far_from_the_center(trainer: Callable[..., Any]) -> None:
    data = made_data()
    module = seeded(partial(loe, expected_share=0.2, epochs=[40], lr=[3e-2]))
    trainer(max_epochs=40).fit(module, datamodule=data)
    loader = data.ordered_dataloader()
    scores, y = zip(*((module.eval().score(x), y) for x, _, y, _ in loader), strict=True)
    score, truth = torch.cat(scores), torch.cat(y)
    assert score[truth == 1].median() > score[truth == 0].median()
