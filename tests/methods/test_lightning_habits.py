"""The modules in a plain script: Lightning's own Trainer, callbacks, loaders and checkpoints."""

import csv
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import plan_of
from processes import ROOT
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from deepsad_pl.common.batch import unpack
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.scenario import Scenario
from deepsad_pl.data.sources import Source
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule, SoftBoundarySVDDModule
from deepsad_pl.methods.hsc import HSCModule
from deepsad_pl.methods.hypersphere import away_from_zero
from deepsad_pl.methods.ss_dgm import SSDGMModule
from deepsad_pl.methods.vae import VAEModule
from deepsad_pl.training.trainer import LossRecorder, make_trainer

NETWORK = {"name": "mlp", "in_features": 4, "units": [8, 3]}
SCHEDULE: dict[str, Any] = {"lr": [1e-3], "epochs": [4]}
GENERATIVE: dict[str, Any] = {"hidden": [5], "latent": 2, "likelihood": "gaussian"}

UNSUPERVISED: dict[str, Callable[[], TrainedMethod]] = {
    "deep_svdd": lambda: DeepSVDDModule(NETWORK, **SCHEDULE),
    "soft_boundary_svdd": lambda: SoftBoundarySVDDModule(NETWORK, **SCHEDULE),
    "autoencoder": lambda: AutoencoderModule(NETWORK, sigmoid=False, **SCHEDULE),
    "vae": lambda: VAEModule(NETWORK, **GENERATIVE, **SCHEDULE),
}
SEMI_SUPERVISED: dict[str, Callable[[], TrainedMethod]] = {
    "deep_sad": lambda: DeepSADModule(NETWORK, **SCHEDULE),
    "classifier": lambda: ClassifierModule(NETWORK, **SCHEDULE),
    "hsc": lambda: HSCModule(NETWORK, **SCHEDULE),
    "ss_dgm": lambda: SSDGMModule(NETWORK, labeled_share=0.2, **GENERATIVE, **SCHEDULE),
}


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(60) % 3
    x = np.random.default_rng(seed).normal(size=(60, 4)) + labels[:, None]
    return x.astype(np.float32), labels


def made_data() -> AnomalyDataModule:
    """20 normal rows and 5 labeled anomalies in 3 batches of 9, 8 and 8; 60 test rows."""
    (x_train, labels_train), (x_test, labels_test) = rows(0), rows(1)
    source = Source(x_train, labels_train, x_test, labels_test, scale=None)
    return AnomalyDataModule(source, Scenario((0,), (1,), 0.2, 0.0, 0.0, 0), batch_size=10)


def pairs_of(data: AnomalyDataModule) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.source.x_test), torch.from_numpy(data.test_y)


def loader(*tensors: Tensor, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*tensors), batch_size=10, **kwargs)


def seeded(make: Callable[[], TrainedMethod]) -> TrainedMethod:
    torch.manual_seed(0)
    return make()


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(**kwargs: Any) -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        given: dict[str, Any] = {"accelerator": "cpu", "default_root_dir": tmp_path, "max_epochs": 2, "logger": False}
        return Trainer(**given | quiet | kwargs)

    return make


class Steps(Callback):
    """The loss and the size of each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((float(outputs["loss"]), len(unpack(batch).x)))


def test_the_training_loss_is_logged_for_callbacks_and_loggers(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    steps, stop = Steps(), EarlyStopping("train_loss", min_delta=1e9, patience=1)
    kept = ModelCheckpoint(tmp_path, monitor="train_loss", filename="{epoch}", save_top_k=-1)
    plain = trainer(
        max_epochs=4,
        callbacks=[steps, stop, kept],
        enable_checkpointing=True,
        logger=CSVLogger(tmp_path, name="", version=""),
        log_every_n_steps=1,
    )
    plain.fit(DeepSADModule(NETWORK, **SCHEDULE), datamodule=made_data())
    assert plain.current_epoch == 2, "EarlyStopping saw no improvement in the second epoch"
    epochs = [steps.seen[:3], steps.seen[3:]]
    means = [sum(loss * size for loss, size in epoch) / sum(size for _, size in epoch) for epoch in epochs]
    assert [size for _, size in epochs[0]] == [9, 8, 8]
    assert float(plain.callback_metrics["train_loss"]) == pytest.approx(means[1], rel=1e-6)
    with (tmp_path / "metrics.csv").open() as file:
        assert [float(row["train_loss"]) for row in csv.DictReader(file)] == pytest.approx(means, rel=1e-6)
    assert kept.best_model_score is not None
    assert float(kept.best_model_score) == pytest.approx(min(means), rel=1e-6)


def test_our_own_trainer_records_the_loss_and_does_not_log_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[float] = []

    class Sink:
        def losses(self, phase: str, epoch: int, first_step: int, values: Any) -> None:
            recorded.extend(values)

    module = DeepSADModule(NETWORK, **SCHEDULE)
    monkeypatch.setattr(module, "log", None)
    own = make_trainer(plan_of("trainer=cpu").trainer, tmp_path, 1, [LossRecorder("fit", Sink())])
    own.fit(module, datamodule=made_data())
    assert len(recorded) == 3
    assert not own.callback_metrics


def test_predictions_equal_the_scores_of_the_test(trainer: Callable[..., Trainer]) -> None:
    data, plain, module = made_data(), trainer(), DeepSADModule(NETWORK, **SCHEDULE)
    x, y = pairs_of(data)
    plain.fit(module, datamodule=data)
    plain.test(module, datamodule=data, verbose=False)
    score = module.test_result["score"]
    for source in (data, loader(x), loader(x, y), DataLoader(x, 10)):  # type: ignore[arg-type]
        given = {"datamodule": data} if source is data else {"dataloaders": source}
        assert torch.allclose(torch.cat(plain.predict(module, **given)), score, atol=1e-6)
    of_two = plain.predict(module, [loader(x), loader(x[:20])])
    assert [len(torch.cat(of_one)) for of_one in of_two] == [60, 20]


def test_pairs_of_samples_and_ground_truth_are_tested_and_validated(trainer: Callable[..., Trainer]) -> None:
    data, plain, module = made_data(), trainer(), DeepSADModule(NETWORK, **SCHEDULE)
    plain.fit(module, datamodule=data)
    (expected,) = plain.test(module, datamodule=data, verbose=False)
    result = module.test_result
    pairs = loader(*pairs_of(data))
    assert plain.test(module, pairs, verbose=False) == [pytest.approx(expected)]
    assert torch.equal(module.test_result["idx"], torch.arange(60))
    assert torch.allclose(module.test_result["score"], result["score"], atol=1e-6)
    (validated,) = plain.validate(module, pairs, verbose=False)
    assert validated == pytest.approx({name.replace("test/", "val/"): value for name, value in expected.items()})


def test_samples_without_ground_truth_cannot_be_tested(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(DeepSADError, match=r"no ground truth .* yield \(x, y\)"):
        trainer().test(DeepSADModule(NETWORK), loader(pairs_of(made_data())[0]), verbose=False)


def test_class_labels_are_not_accepted_as_ground_truth(trainer: Callable[..., Trainer]) -> None:
    data = made_data()
    labels = torch.from_numpy(data.source.labels_test)
    with pytest.raises(ValueError, match=r"must be 0 .* or 1 .* but holds 2"):
        trainer().test(DeepSADModule(NETWORK), loader(pairs_of(data)[0], labels), verbose=False)


def test_the_test_set_is_not_used_for_validation(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, module = made_data(), DeepSADModule(NETWORK, **SCHEDULE)
    with pytest.raises(DeepSADError, match="no validation set, and the test set is for"):
        trainer().validate(module, datamodule=data)
    monkeypatch.setattr(data, "test_dataloader", None)
    plain = trainer()
    plain.fit(module, datamodule=data)
    assert set(plain.callback_metrics) == {"train_loss"}


def test_a_data_module_with_held_out_data_validates_in_every_epoch(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    x, y = (tensor[torch.argsort(pairs_of(made_data())[1])] for tensor in pairs_of(made_data()))

    class HeldOut(AnomalyDataModule):
        def val_dataloader(self) -> DataLoader[Any]:  # type: ignore[override]
            # The first two batches, which Lightning uses for its sanity check, are all normal.
            return loader(x, y)

    plain_data = made_data()
    data = HeldOut(plain_data.source, plain_data.scenario, batch_size=10)
    best = ModelCheckpoint(tmp_path, monitor="val/auroc", mode="max")
    plain, module = trainer(callbacks=[best], enable_checkpointing=True), DeepSADModule(NETWORK, **SCHEDULE)
    plain.fit(module, datamodule=data)
    assert set(plain.callback_metrics) == {"train_loss", "val/auroc", "val/average_precision"}
    assert best.best_model_score is not None
    (validated,) = plain.validate(module, datamodule=data, verbose=False)
    assert validated["val/auroc"] == pytest.approx(float(plain.callback_metrics["val/auroc"]))


def test_a_trial_run_of_one_batch_passes(trainer: Callable[..., Trainer]) -> None:
    x, y = pairs_of(made_data())
    one_class = loader(x[y == 0], y[y == 0])
    trial = trainer(fast_dev_run=True)
    trial.fit(DeepSVDDModule(NETWORK), loader(x), one_class)
    assert trial.global_step == 1


def test_a_data_module_prints_what_it_holds() -> None:
    assert "'labeled_anomalies': 5" in str(made_data())
    assert "'test': 60" in str(made_data())


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_unsupervised_methods_train_on_samples_without_labels(name: str, trainer: Callable[..., Trainer]) -> None:
    x, y = pairs_of(made_data())
    semi_y, idx = -y, torch.arange(60)
    states = []
    for source in (loader(x, semi_y, 1 - y, idx), loader(x, y), loader(x), DataLoader(x, 10)):  # type: ignore[arg-type]
        module = seeded(UNSUPERVISED[name])
        trainer().fit(module, source)
        states.append(module.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[key], tensor) for key, tensor in states[0].items())


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
def test_semi_supervised_methods_require_semi_labels(name: str, trainer: Callable[..., Trainer]) -> None:
    x, y = pairs_of(made_data())
    make, semi_y = SEMI_SUPERVISED[name], -y * (torch.arange(60) % 2)
    for source in (loader(x, y), loader(x)):
        with pytest.raises(DeepSADError, match=r"learns from semi-labels, .* let the loader yield \(x, semi_y, y\) or"):
            trainer().fit(make(), source)
    states = []
    for source in (loader(x, semi_y, y, torch.arange(60)), loader(x, semi_y, 1 - y)):
        module = seeded(make)
        trainer().fit(module, source)
        states.append(module.state_dict())
    assert all(torch.equal(states[1][key], tensor) for key, tensor in states[0].items())


def test_an_invalid_batch_is_refused() -> None:
    x, label = torch.zeros(3, 4), torch.zeros(3)
    for batch in (
        {"x": x},
        [],
        [x, x],
        [[x, label], [x, label]],
        [x, label[:2]],
        [x, label[:, None]],
        [x, ["a", "b", "c"]],
        [x, label, label, label, label],
    ):
        with pytest.raises(DeepSADError, match=r"a batch is a .*, but it must be x, \(x,\), \(x, y\)"):
            unpack(batch)
    assert unpack([x, label]).y is label
    assert unpack((x, label, 1 + label)).semi_y is label


@pytest.mark.parametrize(
    "options",
    [{}, {"shuffle": True}, {"num_workers": 1, "persistent_workers": True, "multiprocessing_context": "fork"}],
    ids=["in order", "shuffled", "persistent worker"],
)
def test_the_center_comes_from_the_loader_and_the_first_epoch_loses_no_batch(
    options: dict[str, Any], trainer: Callable[..., Trainer]
) -> None:
    class Halved(DeepSVDDModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [batch[0] / 2, *batch[1:]]

    (x, _), module, steps = pairs_of(made_data()), Halved(NETWORK, **SCHEDULE), Steps()
    module.eval()
    with torch.no_grad():
        expected = away_from_zero(module.encoder(x / 2).double().mean(dim=0)).float()
    trainer(callbacks=[steps]).fit(module, CombinedLoader(loader(x, **options)))
    assert torch.allclose(module.center, expected, atol=1e-6)
    assert len(steps.seen) == 2 * 6


def test_several_loaders_at_once_are_refused(trainer: Callable[..., Trainer]) -> None:
    x, _ = pairs_of(made_data())
    for make in (UNSUPERVISED["deep_svdd"], UNSUPERVISED["autoencoder"]):
        with pytest.raises(DeepSADError, match="a batch is a "):
            trainer().fit(make(), [loader(x), loader(x)])


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_other_precisions_can_be_trained(precision: str, trainer: Callable[..., Trainer]) -> None:
    module = DeepSADModule(NETWORK, **SCHEDULE)
    trainer(precision=precision).fit(module, datamodule=made_data())
    assert bool(module.center_is_set)


@pytest.mark.parametrize("name", [*UNSUPERVISED, *SEMI_SUPERVISED])
def test_fit_resumes_from_a_checkpoint_in_mid_training(
    name: str, trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    make = (UNSUPERVISED | SEMI_SUPERVISED)[name]
    kept = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight, resumed = seeded(make), make()
    trainer(max_epochs=4, callbacks=[kept], enable_checkpointing=True).fit(straight, datamodule=made_data())
    middle = tmp_path / "epoch=1.ckpt"
    trainer(max_epochs=4).fit(resumed, datamodule=made_data(), ckpt_path=middle, weights_only=True)
    state = resumed.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in straight.state_dict().items())


def test_without_an_optimizer_fit_refuses_a_checkpoint_and_the_others_load_it(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    data, path = made_data(), tmp_path / "last.ckpt"
    module = DeepSADModule(NETWORK, **SCHEDULE)
    plain = trainer()
    plain.fit(module, datamodule=data)
    # As our own runs save it: without the optimizer.
    kept = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(kept | {"pytorch-lightning_version": "2.6.0"}, path)
    other = DeepSADModule(NETWORK, **SCHEDULE)
    with pytest.raises(DeepSADError, match=r"holds no optimizer state, .* DeepSADModule\.load_from_checkpoint"):
        trainer(max_epochs=4).fit(other, datamodule=data, ckpt_path=path)
    expected = torch.cat(plain.predict(module, datamodule=data))
    found = trainer().predict(other, datamodule=data, ckpt_path=path, weights_only=True)
    assert torch.equal(torch.cat(found), expected)
    plain.fit(DeepSADModule.load_from_checkpoint(path, weights_only=True), datamodule=data)


class Saves(DeepSADModule):
    def __init__(self, network: dict[str, Any], delta: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network, eta=2 * delta, **kwargs)
        self.save_hyperparameters()
        self.delta = delta


class SavesFirst(DeepSADModule):
    def __init__(self, network: dict[str, Any], delta: float = 0.5, **kwargs: Any) -> None:
        self.save_hyperparameters()
        super().__init__(network, eta=2 * delta, **kwargs)
        self.delta = delta


class SavesNothing(DeepSADModule):
    def __init__(self, network: dict[str, Any], delta: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network, eta=2 * delta, **kwargs)
        self.delta = delta


class SavesOne(Saves):
    def __init__(self, network: dict[str, Any], gamma: float, **kwargs: Any) -> None:
        super().__init__(network, gamma / 2, **kwargs)
        self.save_hyperparameters("gamma")


class SavesNoSuper(DeepSADModule):
    def __init__(self, network: dict[str, Any], *, eta: float = 0.5, lr: Any, epochs: Any) -> None:
        DeepSADModule.__init__(self, network, eta=eta, lr=lr, epochs=epochs)


def saved_and_loaded(module: TrainedMethod, folder: Path, make: Callable[..., Trainer], **kwargs: Any) -> TrainedMethod:
    """Load the module and train it further from the checkpoint."""
    plain, path = make(max_epochs=1), folder / "saved.ckpt"
    plain.fit(module, datamodule=made_data())
    plain.save_checkpoint(path)
    loaded = type(module).load_from_checkpoint(path, weights_only=True, **kwargs)
    make().fit(loaded, datamodule=made_data(), ckpt_path=path, weights_only=True)
    return loaded


@pytest.mark.parametrize(
    ("make", "saved"),
    [
        (lambda: Saves(NETWORK, 0.7, **SCHEDULE), {"delta": 0.7}),
        (lambda: SavesFirst(NETWORK, 0.7, **SCHEDULE), {"delta": 0.7}),
        (lambda: SavesNothing(NETWORK, 0.7, **SCHEDULE), {"delta": 0.7}),
        (lambda: SavesOne(NETWORK, 0.7, **SCHEDULE), {"gamma": 0.7}),
        (lambda: SavesNoSuper(NETWORK, eta=0.7, **SCHEDULE), None),
    ],
    ids=["after", "before", "not at all", "one of them", "without super"],
)
def test_a_subclass_with_its_own_arguments_can_be_loaded(
    make: Callable[[], DeepSADModule],
    saved: dict[str, Any] | None,
    trainer: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    module = make()
    loaded = saved_and_loaded(module, tmp_path, trainer)
    assert isinstance(loaded, DeepSADModule)
    assert loaded.eta == module.eta
    assert loaded.lr == module.lr
    if saved is not None:
        assert dict(loaded.hparams) == {"network": NETWORK, **saved, **SCHEDULE}


def test_arguments_that_a_subclass_ignores_must_be_passed_again(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    class WithHead(DeepSADModule):
        def __init__(self, network: dict[str, Any], head: nn.Module, **kwargs: Any) -> None:
            super().__init__(network, **kwargs)
            self.save_hyperparameters(ignore="head")
            self.head = head

    loaded = saved_and_loaded(WithHead(NETWORK, nn.Linear(3, 1)), tmp_path, trainer, head=nn.Linear(3, 1))
    assert dict(loaded.hparams) == {"network": NETWORK}


def test_numpy_arguments_can_be_loaded_with_weights_only(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    module = DeepSADModule(
        {**NETWORK, "units": np.array([8, 3])},
        eta=np.float64(0.7),
        lr=[np.float64(1e-3)],
        epochs=(np.int64(4),),
        weight_decay=np.float32(0.5),  # type: ignore[arg-type]
    )
    loaded = saved_and_loaded(module, tmp_path, trainer)
    assert (loaded.eta, loaded.lr, loaded.epochs, loaded.weight_decay) == (0.7, [1e-3], [4], 0.5)
    assert loaded.hparams["network"] == NETWORK


WITH_LIGHTNING = """
import sys
sys.path.insert(0, {folder!r})
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.methods.deep_svdd import DeepSVDDModule
import deepsad_pl.stacked.training, deepsad_pl.training.trainer
assert not [name for name in sys.modules if name.startswith(("pytorch_lightning", "lightning_fabric"))]
assert issubclass(AnomalyDataModule, pl.LightningDataModule)
quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **quiet)
module = DeepSVDDModule({{"name": "mlp", "in_features": 4, "units": [3, 2]}})
trainer.fit(module, DataLoader(TensorDataset(torch.randn(20, 4)), batch_size=10))
assert "train_loss" in trainer.callback_metrics
trainer.save_checkpoint({folder!r} + "/saved.ckpt")
loaded = DeepSVDDModule.load_from_checkpoint({folder!r} + "/saved.ckpt", weights_only=True)
assert isinstance(loaded, pl.LightningModule) and not loaded.training
"""


@pytest.mark.slow
def test_the_package_lightning_is_used_if_it_was_imported_first(tmp_path: Path) -> None:
    # Both are published from one source, in which only these names differ.
    for name, renamed in (("pytorch_lightning", "pytorch"), ("lightning_fabric", "fabric")):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).parent
        for path in [*source.rglob("*.py"), *source.rglob("*.info")]:
            target = tmp_path / "lightning" / renamed / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8").replace("pytorch_lightning", "lightning.pytorch")
            target.write_text(text.replace("lightning_fabric", "lightning.fabric"), encoding="utf-8")
    (tmp_path / "lightning" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-B", "-c", WITH_LIGHTNING.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_script_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    block = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "lightning.md").read_text("utf-8"), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(compile(block, "lightning.md", "exec"), namespace)
    assert namespace["scores"].shape == (50,)


@pytest.fixture
def forked_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lightning leaves the port of the ranks in the environment; a forked rank has no threads of OpenMP."""
    monkeypatch.setenv("MASTER_PORT", "0")
    monkeypatch.delenv("MASTER_PORT")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("forked_ranks")
def test_two_ranks_log_what_one_process_does(trainer: Callable[..., Trainer]) -> None:
    seen = []
    for options in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        data, plain, module = made_data(), trainer(**options), seeded(SEMI_SUPERVISED["deep_sad"])
        plain.fit(module, datamodule=data)
        logged = dict(plain.callback_metrics)
        logged |= plain.validate(module, loader(*pairs_of(data)), verbose=False)[0]
        seen.append({name: float(value) for name, value in logged.items()})
    # The ranks' parts of the 25 samples of an epoch differ in size.
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert set(seen[0]) == {"train_loss", "val/auroc", "val/average_precision"}
