"""What a user's script or subclass sets for itself stays: learning rates, schedulers, samples, batches."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.scenario import Scenario
from deepsad_pl.data.sources import Source
from deepsad_pl.methods.deep_svdd import DeepSVDDModule
from deepsad_pl.methods.devnet import DevNetModule
from deepsad_pl.methods.prenet import PReNetModule

pytestmark = pytest.mark.unit
NETWORK = {"name": "mlp", "in_features": 4, "units": [8, 3]}


class Rates(Callback):
    """Collects the learning rates of each step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.seen.append([group["lr"] for group in optimizer.param_groups])


class Stepped(DeepSVDDModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)}


class Grouped(DeepSVDDModule):
    def configure_optimizers(self) -> Any:
        first, *rest = self.parameters()
        return torch.optim.SGD([{"params": [first], "lr": 1e-4}, {"params": rest, "lr": 1e-2}])


class Alternating(DeepSVDDModule):
    def __init__(self, network: Any, **schedule: Any) -> None:
        super().__init__(network, **schedule)
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        first, *rest = self.parameters()
        return torch.optim.SGD([first], lr=0.1), torch.optim.SGD(rest, lr=0.2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
        self.manual_backward(self.terms(*self.training_part(batch)).mean())
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.step()


def trainer(epochs: int, *callbacks: Callback) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[*callbacks], enable_model_summary=False, **quiet)


def loader(**settings: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(24, 4)), batch_size=12, **settings)


def rates_of(module: DeepSVDDModule, epochs: int, *callbacks: Callback) -> list[list[float]]:
    seen = Rates()
    trainer(epochs, seen, *callbacks).fit(module, loader())
    return [[pytest.approx(rate) for rate in step] for step in seen.seen]


def test_an_own_scheduler_sets_the_rates() -> None:
    assert rates_of(Stepped(NETWORK, lr=[1e-3], epochs=[3]), 3) == [[0.5]] * 2 + [[0.05]] * 2 + [[0.005]] * 2


def test_groups_of_an_own_optimizer_keep_their_rates(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert rates_of(Grouped(NETWORK, lr=[1e-3], epochs=[2]), 2) == [[1e-4, 1e-2]] * 4
        assert caplog.text == ""
        rates_of(Grouped(NETWORK, lr=[1e-3, 1e-4], epochs=[1, 1]), 2)
    assert "Grouped.configure_optimizers replaces the schedule of learning rates, so lr=[0.001, 0.0001]" in caplog.text


class Inherited(DeepSVDDModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return super().configure_optimizers()


def test_the_optimizer_of_the_package_follows_its_schedule_in_a_subclass() -> None:
    rates = rates_of(Inherited(NETWORK, lr=[1e-3, 1e-4], epochs=[1, 1]), 2)
    assert rates == [[1e-3]] * 2 + [[1e-4]] * 2


def test_several_optimizers_are_possible() -> None:
    module = Alternating(NETWORK, lr=[1e-3], epochs=[2])
    before = [parameter.clone() for parameter in module.parameters()]
    trainer(2).fit(module, loader())
    assert all(not torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_weight_averaging_gets_its_rate() -> None:
    averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1)
    seen = rates_of(DeepSVDDModule(NETWORK, lr=[1e-3], epochs=[5]), 5, averaging)
    assert seen[:4] == [[1e-3]] * 4 and seen[-1] == [0.05]


def test_the_schedule_of_the_package_is_followed() -> None:
    assert rates_of(DeepSVDDModule(NETWORK, lr=[1e-3, 1e-4], epochs=[1, 2]), 3) == [[1e-3]] * 2 + [[1e-4]] * 4


def test_samples_with_the_same_number_all_count() -> None:
    """Two data sets, each numbered from 0, in one loader."""
    module = DeepSVDDModule(NETWORK, lr=[1e-3], epochs=[1])
    trainer(1).fit(module, loader())
    parts = []
    for label in (0, 1):
        x, semi_y = torch.randn(50, 4), torch.zeros(50, dtype=torch.int64)
        parts.append(TensorDataset(x, semi_y, torch.full((50,), label), torch.arange(50)))
    trainer(1).test(module, DataLoader(ConcatDataset(parts), batch_size=32), verbose=False)
    result = module.test_result
    assert result["idx"].tolist() == np.repeat(np.arange(50), 2).tolist() and result["y"].sum() == 50


def data(**settings: Any) -> AnomalyDataModule:
    labels = np.arange(60) % 3
    x = (np.random.default_rng(0).normal(size=(60, 4)) + labels[:, None]).astype(np.float32)
    scenario = Scenario(normal_classes=(0,), known_classes=(1,), gamma_l=0.2, gamma_p=0.0, gamma_n=0.0, seed=0)
    return AnomalyDataModule(Source(x, labels, x, labels, None), scenario, batch_size=10, **settings)


def test_a_method_says_which_batches_it_is_meant_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        trainer(1).fit(DevNetModule(NETWORK, lr=[1e-3], epochs=[1]), datamodule=data())
        assert (
            "DevNetModule is meant for balanced batches, but those of the data module are shuffled; use" in caplog.text
        )
        caplog.clear()
        trainer(1).fit(DevNetModule(NETWORK, lr=[1e-3], epochs=[1]), datamodule=data(sampling="balanced"))
    assert caplog.text == ""


def test_prenet_takes_its_partners_from_the_data_module() -> None:
    module, samples = PReNetModule(NETWORK, partners=5, lr=[1e-3], epochs=[1]), data(sampling="pairs")
    with pytest.raises(DeepSADError, match="PReNet scores a sample by pairs with training samples, which are not set"):
        trainer(1).predict(module, samples)
    trainer(1).fit(module, datamodule=samples)
    assert all(scores.isfinite().all() for scores in trainer(1).predict(module, datamodule=samples))
    others, anomalies = samples.partners(5)
    assert torch.equal(module.others, torch.from_numpy(others))
    assert torch.equal(module.anomalies, torch.from_numpy(anomalies))
