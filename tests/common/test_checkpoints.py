"""Checkpoints: a damaged or foreign one is never used and causes no traceback; a loaded module is ready to score."""

import copy
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import plan_of
from pytorch_lightning import Trainer
from stacks import assigned, losses, outcomes, scores, together
from tiny_data import write_odds

from deepsad_pl.common.checkpoints import Checkpoint, DamagedError, from_bytes, require_whole, sealed, to_bytes
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.classifier import ClassifierModule
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.stacked.callbacks import ReplicaCheckpoints
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.restorable import require_finished, require_resumable, usable
from deepsad_pl.training.trainer import CollapseCheck, EpochCheckpoint, make_trainer

NETWORK = {"name": "mlp", "in_features": 2, "units": [4, 3]}
PLAN = plan_of("dataset=toy", "trainer.accelerator=cpu", "trainer.max_epochs=4", "pretrain=none", "logger=none")


@pytest.fixture(autouse=True)
def at_info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def finished_one(module: DeepSADModule) -> Checkpoint:
    return {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
        "epoch": 3,
        "seconds": 1.5,
        "spread": {"initial": 2.0, "final": 1.0},
        "trained_with": {"device": "cpu"},
        "reused": None,
    }


def unsealed(checkpoint: Checkpoint) -> bytes:
    """Write a checkpoint as earlier releases did."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getvalue()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# The file.


def test_torch_reads_a_sealed_checkpoint_like_any_other(tmp_path: Path) -> None:
    module = DeepSADModule(NETWORK)
    path = tmp_path / "last.ckpt"
    path.write_bytes(to_bytes(finished_one(module)))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"SHA-256 ")
    for read in (
        from_bytes(path.read_bytes()),
        torch.load(path, weights_only=True),
        torch.load(path, weights_only=True, mmap=True),
    ):
        assert read["hyper_parameters"] == dict(module.hparams)
        require_finished(read, module)
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        loaded = DeepSADModule.load_from_checkpoint(source, map_location="cpu", weights_only=True)
        assert all(torch.equal(loaded.state_dict()[key], tensor) for key, tensor in module.state_dict().items())


def test_every_flipped_bit_is_detected() -> None:
    content = to_bytes(finished_one(DeepSADModule(NETWORK)))
    require_whole(content)
    for bit in range(8 * len(content)):
        with pytest.raises(DamagedError):
            require_whole(flipped(content, bit))
    for length in range(0, len(content), 7):
        with pytest.raises(DamagedError):
            from_bytes(content[:length])


def test_no_flipped_bit_of_a_checkpoint_without_a_sum_changes_anything() -> None:
    module = DeepSADModule(NETWORK)
    checkpoint = finished_one(module)
    content = unsealed(checkpoint)
    directory = zipfile.ZipFile(io.BytesIO(content)).start_dir
    rng, end = np.random.default_rng(0), 8 * len(content)
    anywhere, in_directory = rng.integers(0, end, 300), rng.integers(8 * directory, end, 300)
    # torch does not read an entry with the folder attribute of MS-DOS.
    entries = [place for place in range(directory, len(content)) if content[place:].startswith(b"PK\1\2")]
    folders = [8 * (place + 38) + 4 for place in entries]
    seen = 0
    for bit in (*anywhere, *in_directory, *folders):
        try:
            found = from_bytes(flipped(content, int(bit)))
            require_finished(found, module)
        except DamagedError:
            seen += 1
            continue
        for key, tensor in checkpoint.pop("state_dict").items():
            assert torch.equal(found["state_dict"][key], tensor)
        checkpoint["state_dict"] = module.state_dict()
        del found["state_dict"]
        assert found == {key: value for key, value in checkpoint.items() if key != "state_dict"}
    assert 300 < seen < 600
    assert len(folders) > 5


def test_only_an_archive_without_a_comment_is_sealed() -> None:
    content = to_bytes({})
    for wrong in (content, b"", b"x" * 100):
        with pytest.raises(ValueError, match="zip archive without a comment"):
            sealed(wrong)


# Its content.


def phase_of(seed: int = 0) -> Any:
    plan = plan_of(
        "dataset=toy", "trainer.accelerator=cpu", "trainer.max_epochs=4", "pretrain=none", "logger=none", f"seed={seed}"
    )
    (phase,) = build(plan, load_data(plan)).phases
    return phase


@pytest.fixture(scope="module", params=["alone", "stacked"])
def half(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint after two of four epochs."""
    folder = tmp_path_factory.mktemp("half")
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    phase, settings = phase_of(), {**PLAN.trainer, "checkpoint_seconds": 0}
    if request.param == "alone":
        trainer = make_trainer(settings, folder, 2, [CollapseCheck("fit"), EpochCheckpoint(path, 0)])
        trainer.fit(phase.module, datamodule=phase.data)
    else:
        phase.module.epochs = [3, 0]
        train_stack([Training(phase, path, NoTracker())], settings, folder)
    assert path.read_bytes()[-72:].startswith(b"SHA-256 ")
    return from_bytes(path.read_bytes())


def test_a_checkpoint_saved_during_training_is_accepted(half: Checkpoint) -> None:
    assert half["epoch"] == 1
    require_resumable(half, phase_of(seed=1).module)
    require_resumable(from_bytes(unsealed(half)), phase_of(seed=1).module)


def in_state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Checkpoint], Any]:
    return lambda checkpoint: change(checkpoint["state_dict"])


WRONG_STATE: dict[str, tuple[Callable[[Checkpoint], Any], str]] = {
    "no state": (lambda c: c.pop("state_dict"), "it holds no tensors of a DeepSADModule"),
    "another key": (in_state(lambda s: s.update(more=torch.zeros(1))), "more is not in both"),
    "a key less": (in_state(lambda s: s.pop("center")), "center is not in both"),
    "shape": (in_state(lambda s: s.update(center=torch.zeros(1, 3))), r"center is \(1, 3\), torch.float32 instead of"),
    "type": (in_state(lambda s: s.update(center=s["center"].double())), "float64 instead of"),
    "no tensor": (in_state(lambda s: s.update(center=3)), "center is int instead of"),
    "nan": (in_state(lambda s: s["encoder.layers.0.weight"][1, 1:].fill_(torch.nan)), "weight is not finite"),
    "inf": (in_state(lambda s: s["center"][0].fill_(torch.inf)), "center is not finite"),
}
WRONG_FINISH: dict[str, tuple[Callable[[Checkpoint], Any], str]] = {
    "seconds": (lambda c: c.pop("seconds"), "does not say how it was trained"),
    "spread": (lambda c: c.update(spread={"initial": "1"}), "does not say how it was trained"),
    "reused": (lambda c: c.update(reused={}), "does not say how it was trained"),
    "trained with": (lambda c: c.update(trained_with=0), "does not say how it was trained"),
}
ADAM = "optimizer_states"
WRONG_HALF: dict[str, tuple[Callable[[Checkpoint], Any], str]] = {
    "no epoch": (lambda c: c.pop("epoch"), "'epoch'"),
    "past the end": (lambda c: c.update(epoch=100), "epoch is 100"),
    "no callbacks": (lambda c: c.update(callbacks={}), "EpochCheckpoint"),
    "no seconds": (lambda c: c["callbacks"].update(EpochCheckpoint=None), "all that resuming needs"),
    "no loops": (lambda c: c.update(loops=None), "all that resuming needs"),
    "no Adam": (lambda c: c.update({ADAM: []}), "all that resuming needs"),
    "two Adams": (lambda c: c.update({ADAM: c[ADAM] * 2}), "all that resuming needs"),
    "fewer weights": (lambda c: c[ADAM][0]["param_groups"][0].update(params=[0]), "all that resuming needs"),
    "decay": (lambda c: c[ADAM][0]["param_groups"][0].update(weight_decay=0.5), "weight_decay of Adam is 0.5, not"),
    "averages": (lambda c: c[ADAM][0]["state"][0].update(exp_avg=torch.zeros(2)), "exp_avg of parameter 0 is"),
    "nan average": (lambda c: c[ADAM][0]["state"][1]["exp_avg_sq"].fill_(torch.nan), "of parameter 1 is not finite"),
    "step": (lambda c: c[ADAM][0]["state"][1].update(step=torch.zeros(2)), "all that resuming needs"),
    "another weight": (lambda c: c[ADAM][0]["state"].update({77: c[ADAM][0]["state"].pop(0)}), "resuming needs"),
}


@pytest.mark.parametrize("name", [*WRONG_STATE, *WRONG_HALF])
def test_a_checkpoint_that_cannot_be_resumed_is_damaged(half: Checkpoint, name: str) -> None:
    spoil, why = (WRONG_STATE | WRONG_HALF)[name]
    wrong = copy.deepcopy(half)
    spoil(wrong)
    with pytest.raises(DamagedError, match=why):
        require_resumable(wrong, phase_of().module)


@pytest.mark.parametrize("name", [*WRONG_STATE, *WRONG_FINISH])
def test_an_incomplete_finished_checkpoint_is_damaged(name: str) -> None:
    spoil, why = (WRONG_STATE | WRONG_FINISH)[name]
    wrong = finished_one(DeepSADModule(NETWORK))
    require_finished(wrong, DeepSADModule(NETWORK))
    spoil(wrong)
    with pytest.raises(DamagedError, match=why):
        require_finished(wrong, DeepSADModule(NETWORK))


def test_a_damaged_checkpoint_is_set_aside_by_the_main_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, aside = tmp_path / "last.ckpt", tmp_path / "last.ckpt.damaged"
    module = DeepSADModule(NETWORK)
    assert usable(path, module) is None
    good = to_bytes(finished_one(module))
    path.write_bytes(good)
    assert usable(path, module) is not None
    other = DeepSADModule({**NETWORK, "units": [5, 3]})
    for content, of, why in (
        (b"", module, "SHA-256 does not match"),
        (flipped(good, 8 * len(good) - 200), module, "SHA-256 does not match"),
        (to_bytes({"a": Path()}), module, "torch cannot read it"),
        (good, other, r"encoder.layers.0.weight is (4, 2), torch.float32 instead of (5, 2)"),
        (good, ClassifierModule(NETWORK), "another module than this ClassifierModule"),
    ):
        path.write_bytes(content)
        caplog.clear()
        assert usable(path, of, main=False) is None
        assert path.exists() and not caplog.records
        assert usable(path, of) is None
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"the checkpoint {path} is damaged" in record.getMessage() and why in record.getMessage()
        assert "it is renamed to last.ckpt.damaged and trained again" in record.getMessage()
        assert aside.read_bytes() == content and not path.exists()
    path.mkdir()
    with pytest.raises(DeepSADError, match=r"last\.ckpt cannot be read .* make it readable or remove it"):
        usable(path, module)


def test_a_checkpoint_that_is_not_a_dictionary_is_damaged() -> None:
    content = io.BytesIO()
    torch.save([1], content)
    with pytest.raises(DamagedError, match="it holds a list instead of a dictionary"):
        from_bytes(sealed(content.getvalue()))


class NaNAtTheEnd(DeepSADModule):
    """A module whose last step makes a weight NaN."""

    def on_train_epoch_end(self) -> None:
        next(self.parameters()).data[0] = torch.nan


def test_weights_that_are_not_finite_are_never_a_result(
    experiment: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("deepsad_pl.methods.deep_sad.DeepSADModule", NaNAtTheEnd)
    for again in range(2):
        with pytest.raises(DeepSADError, match=r"after the last step of fit .*weight is not finite; lower method\.lr"):
            experiment("dataset=toy", "pretrain=none", "trainer.max_epochs=1")
        assert ("last.ckpt is damaged: encoder.layers.0.weight is not finite" in caplog.text) == bool(again)


def test_in_a_stack_non_finite_weights_fail_only_their_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = [phase_of(seed) for seed in range(2)]
    cpu = phases[1].module.cpu

    def spoiled() -> Any:
        next(phases[1].module.parameters()).data[0] = torch.inf
        return cpu()

    monkeypatch.setattr(phases[1].module, "cpu", spoiled)
    paths = [tmp_path / str(number) / "last.ckpt" for number in range(2)]
    for path in paths:
        path.parent.mkdir()
    trainings = [Training(phase, path, NoTracker()) for phase, path in zip(phases, paths, strict=True)]
    good, bad = train_stack(trainings, PLAN.trainer, tmp_path)
    assert isinstance(good, dict)
    assert isinstance(bad, DeepSADError) and "is not finite" in str(bad)


def test_a_pack_resumes_and_only_the_damaged_experiment_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("dataset=toy", "trainer.accelerator=cpu", "pretrain=none", "logger=csv", "trainer.checkpoint_seconds=0")
    cells = [(*words, "trainer.max_epochs=4", f"seed={seed}") for seed in range(3)]
    undisturbed = outcomes(together(tmp_path / "undisturbed", *cells))
    save = ReplicaCheckpoints.on_train_epoch_end

    def save_and_die(self: ReplicaCheckpoints, trainer: Any, pl_module: Any) -> None:
        save(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ReplicaCheckpoints, "on_train_epoch_end", save_and_die)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            together(tmp_path / "runs", *cells)
    paths = [assigned(tmp_path / "runs", *cell).plan.run_dir / "checkpoints" / "last.ckpt" for cell in cells]
    paths[0].write_bytes(flipped(paths[0].read_bytes(), 9999))
    paths[1].write_bytes(unsealed(from_bytes(paths[1].read_bytes())))
    resumed = outcomes(together(tmp_path / "runs", *cells))
    for index, (outcome, expected) in enumerate(zip(resumed, undisturbed, strict=True)):
        log = (outcome.run_dir / "train.log").read_text()
        assert ("resumes from" in log, log.count("is damaged")) == ((False, 1) if index == 0 else (True, 0))
        # In a different stack, which rounds differently.
        np.testing.assert_allclose(scores(outcome.run_dir), scores(expected.run_dir), rtol=1e-3, atol=1e-4)
        assert losses(outcome.run_dir)[0] == losses(expected.run_dir)[0]
    assert paths[0].with_name("last.ckpt.damaged").exists()


# Checkpoints loaded by a user.


@pytest.mark.parametrize("method", ["deep_sad", "soft_boundary_svdd", "classifier", "autoencoder", "ss_dgm_m1m2"])
def test_a_loaded_module_scores_rows_one_by_one_and_together_as_the_run_did(
    experiment: Callable[..., Outcome], tmp_path: Path, method: str
) -> None:
    write_odds(tmp_path, "cardio", rows=200, outliers=50)
    words = (
        "dataset=cardio",
        f"data_dir={tmp_path}",
        f"method={method}",
        "trainer.max_epochs=2",
        "scenario.gamma_l=0.1",
    )
    outcome = experiment(*words)
    plan = plan_of(*words)
    parts = build(plan, load_data(plan))
    path = outcome.run_dir / "checkpoints" / "last.ckpt"
    module = type(parts.phases[-1].module).load_from_checkpoint(path, weights_only=True)
    assert not any(part.training for part in module.modules())
    expected = np.loadtxt(outcome.run_dir / "scores.csv", delimiter=",", skiprows=1, usecols=2)
    rows = torch.from_numpy(load_data(plan).x_test)
    with torch.no_grad():
        np.testing.assert_allclose(module.score(rows), expected, rtol=1e-5, atol=1e-6)
        one_by_one = torch.cat([module.score(row[None]) for row in rows])
        np.testing.assert_allclose(one_by_one, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(module(rows.flip(0)).flip(0), expected, rtol=1e-5, atol=1e-6)


def test_loading_accepts_the_arguments_of_lightning(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint = finished_one(DeepSADModule(NETWORK, eta=3.0))
    path.write_bytes(to_bytes(checkpoint))
    loaded = DeepSADModule.load_from_checkpoint(path, torch.device("cpu"), weights_only=True, eta=2.0)
    assert (loaded.eta, loaded.hparams["eta"]) == (2.0, 2.0)
    del checkpoint["state_dict"]["center"]
    path.write_bytes(unsealed(checkpoint))
    DeepSADModule.load_from_checkpoint(path, strict=False, weights_only=True)
    with pytest.raises(RuntimeError, match="center"):
        DeepSADModule.load_from_checkpoint(path, weights_only=True)
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        loaded.load_from_checkpoint(path)


def test_a_damaged_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    content = to_bytes(finished_one(DeepSADModule(NETWORK)))
    path.write_bytes(flipped(content, 4 * len(content)))
    with pytest.raises(DeepSADError, match=r"last\.ckpt is damaged: its SHA-256 does not match .* copy it again"):
        DeepSADModule.load_from_checkpoint(path, weights_only=True)


class Watched(DeepSADModule):
    """Records the modes in which it is trained."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.modes = [part.training for part in self.modules()]
        return super().training_step(batch, batch_idx)


def trained_on(module: TrainedMethod, folder: Path) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_checkpointing=False, **quiet)
    trainer.fit(module, datamodule=phase_of().data)


def test_a_loaded_module_trains_further_in_training_mode(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    network = {**NETWORK, "units": [64, 32, 16]}
    path.write_bytes(to_bytes(finished_one(DeepSADModule(network))))
    module = Watched.load_from_checkpoint(path, weights_only=True)
    before = copy.deepcopy(module.state_dict())
    assert not module.training
    trained_on(module, tmp_path)
    assert all(module.modes)
    assert not torch.equal(
        module.state_dict()["encoder.layers.1.running_mean"], before["encoder.layers.1.running_mean"]
    )
    # Loading the weights into a new module gives the same training.
    other = Watched(network)
    other.load_state_dict(before)
    trained_on(other, tmp_path)
    assert all(torch.equal(module.state_dict()[key], tensor) for key, tensor in other.state_dict().items())


def test_a_part_set_to_evaluation_mode_by_hand_stays_so() -> None:
    module = DeepSADModule(NETWORK)
    module.encoder.eval()
    module.on_fit_start()
    assert module.training and not module.encoder.training
