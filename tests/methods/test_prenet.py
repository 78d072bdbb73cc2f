"""PReNet: the loss and the score by hand, pairs alone, resumed and on two ranks, and the saved partners."""

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
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.tuple_loader import PairLoader
from deepsad_pl.experiment.build import load_data
from deepsad_pl.methods.prenet import PReNetModule

__all__ = ["forked_ranks", "trainer"]  # fixtures


def paired() -> AnomalyDataModule:
    data = made_data()
    data.sample("pairs")
    return data


def prenet(units: tuple[int, ...] = (4, 2), **options: Any) -> PReNetModule:
    network = {"name": "mlp", "in_features": 4, "units": [*units]}
    module = PReNetModule(network, **{"lr": [1e-2], "epochs": [4], "partners": 3, **options})
    module.set_partners(*map(torch.from_numpy, paired().partners(3)))
    return module


def predicted(module: PReNetModule, one: Tensor, other: Tensor) -> float:
    weight, bias = module.head.weight[0], module.head.bias[0]
    z = torch.cat([module.encoder(one[None])[0], module.encoder(other[None])[0]])
    return float(sum(w * v for w, v in zip(weight, z, strict=True)) + bias)


def test_the_loss_by_hand() -> None:
    module = prenet(gap=3.0).eval()
    x = torch.randn(3, 2, 4)
    expected = [abs(predicted(module, *x[i]) - 3 * i) for i in range(3)]
    assert module.terms(x, torch.tensor([0, -1, -2])).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_score_is_the_mean_over_pairs_with_the_partners() -> None:
    module, x = prenet().eval(), torch.randn(5, 4)
    expected = [
        sum(
            predicted(module, u, one) + predicted(module, one, a)
            for u, a in zip(module.others, module.anomalies, strict=True)
        )
        / 6
        for one in x
    ]
    assert module.score(x).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert PReNetModule({"name": "mlp", "in_features": 4, "units": [2]}).eval().score(x).isnan().all()


def test_single_samples_are_refused() -> None:
    with pytest.raises(DeepSADError, match=r"shape \(B, 2, ...\), but a batch has shape \(6, 4\)"):
        prenet().terms(torch.zeros(6, 4), torch.zeros(6))


def test_an_experiment_trains_on_pairs_and_saves_its_partners() -> None:
    plan = plan_of("method=prenet", "scenario.gamma_l=0.1", "method.partners=7")
    (phase,), (again,), (other,) = (
        phases_of(one, load_data(one))
        for one in (plan, plan, plan_of("method=prenet", "scenario.gamma_l=0.1", "method.partners=7", "seed=1"))
    )
    assert isinstance(phase.data.train_dataloader(), PairLoader)
    assert isinstance(phase.module, PReNetModule)
    partners = {name: tensor for name, tensor in phase.module.state_dict().items() if name in ("others", "anomalies")}
    loader = phase.data.ordered_dataloader()
    rows, semi_y = (torch.cat(parts) for parts in zip(*((x, semi_y) for x, semi_y, _, _ in loader), strict=True))
    for name, kind in (("others", semi_y != -1), ("anomalies", semi_y == -1)):
        assert len(partners[name]) == 7
        assert all((rows[kind] == one).flatten(1).all(dim=1).any() for one in partners[name])
        assert torch.equal(partners[name], again.module.state_dict()[name])
        assert not torch.equal(partners[name], other.module.state_dict()[name])


def test_a_resumed_training_ends_with_the_bits_of_an_undisturbed_one(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(prenet), prenet()
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=paired())
    middle = tmp_path / "epoch=1.ckpt"
    trainer(max_epochs=4).fit(resumed, datamodule=paired(), ckpt_path=middle, weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())
    loaded = PReNetModule.load_from_checkpoint(middle, weights_only=True)
    assert torch.equal(loaded.others, straight.others)
    assert loaded.score(torch.zeros(2, 4)).isfinite().all()


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_take_the_steps_of_one_process(trainer: Callable[..., Any]) -> None:
    states = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        # Without batch norm, whose statistics are those of a rank's own part of the batch.
        module = seeded(partial(prenet, (3,)))
        trainer(**options).fit(module, datamodule=paired())
        states.append(module.state_dict())
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=1e-4, atol=1e-6)
