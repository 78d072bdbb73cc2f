"""A killed run resumes from its last checkpoint and ends with the bits of an undisturbed run."""

import csv
import logging
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import settings_of
from processes import background, wait_for

from deepsad_pl.common.checkpoints import from_bytes, to_bytes
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.methods.deep_sad import DeepSADModule
from deepsad_pl.training.trainer import EpochCheckpoint

SHORT = ("method.epochs=[3,3]", "pretrain.epochs=[3,3]", "trainer.checkpoint_seconds=0", "logger=csv")
MODULES = {"pretrain": AutoencoderModule, "fit": DeepSADModule}
CHECKPOINTS = {"pretrain": "pretrain.ckpt", "fit": "last.ckpt"}
STEPS = 4  # of an epoch: 112 training rows in batches of 32


@cache
def settings_from(*overrides: str) -> dict[str, Any]:
    return settings_of(*overrides)


def run(output_dir: Path, *overrides: str) -> Outcome:
    """An experiment in this process."""
    settings = {**settings_from(*overrides or SHORT), "output_dir": str(output_dir)}
    return run_experiment(make_plan(settings), config=settings, config_yaml="", command="")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """An undisturbed run, whose result every disturbed run must reach."""
    return run(tmp_path_factory.mktemp("undisturbed"))


def break_at(
    patch: pytest.MonkeyPatch, module: type[TrainedMethod], epoch: int, error: type[BaseException] = RuntimeError
) -> None:
    """Make the training of this module fail in the middle of an epoch."""
    step = module.training_step

    def fail(self: TrainedMethod, batch: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (epoch, 2):
            raise error("the power is out")
        return step(self, batch, batch_idx)

    patch.setattr(module, "training_step", fail)


def assert_same_bits(one: Path, other: Path) -> None:
    assert (one / "scores.csv").read_bytes() == (other / "scores.csv").read_bytes()
    for name in CHECKPOINTS.values():
        first, second = (torch.load(d / "checkpoints" / name, weights_only=True)["state_dict"] for d in (one, other))
        assert list(first) == list(second)
        assert all(torch.equal(first[key], second[key]) for key in first)


def losses(run_dir: Path) -> list[tuple[str, ...]]:
    with (run_dir / "losses.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def each_step_once(epochs: int) -> list[tuple[str, str, str]]:
    steps = range(epochs * STEPS)
    return [(phase, str(step // STEPS), str(step)) for phase in CHECKPOINTS for step in steps]


@pytest.fixture(autouse=True)
def at_info_level(caplog: pytest.LogCaptureFixture) -> None:
    """Seed as the command line does."""
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("phase", ["pretrain", "fit"])
@pytest.mark.parametrize("epoch", [0, 2, 5])
def test_an_interrupted_run_resumes_to_the_same_bits(
    undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, MODULES[phase], epoch)
        with pytest.raises(RuntimeError, match="power"):
            run(tmp_path)
    (run_dir,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    checkpoint = run_dir / "checkpoints" / CHECKPOINTS[phase]
    assert not (run_dir / "metrics.json").exists()
    assert checkpoint.exists() == (epoch > 0)
    if epoch:
        assert torch.load(checkpoint, weights_only=True)["epoch"] + 1 == epoch

    resumed = run(tmp_path)
    assert resumed.run_dir == run_dir
    assert_same_bits(run_dir, undisturbed.run_dir)
    assert losses(run_dir) == losses(undisturbed.run_dir)
    assert [row[:3] for row in losses(run_dir)][1:] == each_step_once(6)
    assert resumed.record["spread"] == undisturbed.record["spread"]
    for name in CHECKPOINTS.values():
        kept = [torch.load(folder / "checkpoints" / name)["losses"] for folder in (run_dir, undisturbed.run_dir)]
        assert len(kept[0]) == 6
        assert kept[0] == kept[1]
    log = (run_dir / "train.log").read_text()
    assert ("resumes from" in log) == (epoch > 0)
    assert ("pretrain has already been trained" in log) == (phase == "fit")


def test_a_resumed_training_repeats_only_the_interrupted_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, DeepSADModule, 4)
        with pytest.raises(RuntimeError):
            run(tmp_path)
    trained: list[tuple[str, int]] = []
    start = TrainedMethod.on_train_epoch_start

    def note(self: TrainedMethod) -> None:
        trained.append((type(self).__name__, self.current_epoch))
        start(self)

    monkeypatch.setattr(TrainedMethod, "on_train_epoch_start", note)
    run(tmp_path)
    assert trained == [("DeepSADModule", 4), ("DeepSADModule", 5)]


def test_a_run_interrupted_in_both_phases_resumes_twice(
    undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES.values():
        with monkeypatch.context() as patch:
            break_at(patch, module, 3)
            with pytest.raises(RuntimeError):
                run(tmp_path)
    assert_same_bits(run(tmp_path).run_dir, undisturbed.run_dir)


def test_a_run_interrupted_while_scoring_only_scores_again(
    undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr("deepsad_pl.experiment.run.write_record", fail)
        with pytest.raises(RuntimeError):
            run(tmp_path)
    assert not list(tmp_path.rglob("metrics.json"))
    monkeypatch.setattr(TrainedMethod, "training_step", fail)
    assert_same_bits(run(tmp_path).run_dir, undisturbed.run_dir)


def test_seconds_include_the_time_before_the_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, DeepSADModule, 5)
        with pytest.raises(RuntimeError):
            run(tmp_path)
    kept = {}
    for phase, name in CHECKPOINTS.items():
        (path,) = tmp_path.rglob(name)
        checkpoint = torch.load(path, weights_only=True)
        states = [checkpoint, *checkpoint.get("callbacks", {}).values()]
        (kept[phase],) = (state["seconds"] for state in states if "seconds" in state)
    seconds = run(tmp_path).record["seconds"]
    for phase in CHECKPOINTS:
        assert seconds[phase] >= round(kept[phase], 3) > 0


def test_center_and_unit_are_restored_and_not_recomputed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relative = "method.eta_scale=initial"
    with monkeypatch.context() as patch:
        break_at(patch, DeepSADModule, 2)
        with pytest.raises(RuntimeError):
            run(tmp_path, *SHORT, relative)
    (path,) = tmp_path.rglob("last.ckpt")
    before = torch.load(path, weights_only=True)["state_dict"]
    monkeypatch.setattr("deepsad_pl.methods.hypersphere.sum_and_count", None)
    monkeypatch.setattr(DeepSADModule, "_mean_distance2", None)
    run(tmp_path, *SHORT, relative)
    after = torch.load(path, weights_only=True)["state_dict"]
    assert before["eta_unit"] > 0
    assert all(torch.equal(after[name], before[name]) for name in ("center", "eta_unit"))


def test_a_kill_while_saving_leaves_the_previous_checkpoint(
    undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = EpochCheckpoint.on_train_epoch_end

    def half(self: EpochCheckpoint, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 3:
            for name in (".pretrain.ckpt.0123abcd-4567.abcdefgh.part", "pretrain.part", "../.metrics.json.abcd_123"):
                (self.path.parent / name).write_bytes(b"half")
            raise RuntimeError("the disk is gone")
        save(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpoint, "on_train_epoch_end", half)
        with pytest.raises(RuntimeError, match="disk"):
            run(tmp_path)
    resumed = run(tmp_path)
    assert_same_bits(resumed.run_dir, undisturbed.run_dir)
    assert {path.name for path in (resumed.run_dir / "checkpoints").iterdir()} == set(CHECKPOINTS.values())
    assert {path.name for path in resumed.run_dir.glob(".*")} == {".lock"}


def one_bit(content: bytes) -> bytes:
    """Flip a bit of the zip directory, which has no checksum: torch would take a tensor for an empty folder."""
    changed = bytearray(content)
    changed[content.rindex(b"PK\1\2") + 38] ^= 0x10
    return bytes(changed)


def not_finite(content: bytes) -> bytes:
    checkpoint = from_bytes(content)
    checkpoint["state_dict"]["encoder.layers.0.weight"][0, 0, 0, 0] = torch.nan
    return to_bytes(checkpoint)


def of_another_network(content: bytes) -> bytes:
    checkpoint = from_bytes(content)
    checkpoint["state_dict"]["encoder.layers.0.weight"] = torch.zeros(1)
    return to_bytes(checkpoint)


@pytest.mark.parametrize(
    ("phase", "damage"),
    [("pretrain", one_bit), ("fit", one_bit), ("fit", not_finite), ("pretrain", of_another_network)],
)
def test_a_training_whose_checkpoint_is_damaged_starts_anew(
    undisturbed: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    damage: Callable[[bytes], bytes],
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, MODULES[phase], 2)
        with pytest.raises(RuntimeError, match="power"):
            run(tmp_path)
    (path,) = tmp_path.rglob(CHECKPOINTS[phase])
    bad = damage(path.read_bytes())
    path.write_bytes(bad)
    resumed = run(tmp_path)
    assert_same_bits(resumed.run_dir, undisturbed.run_dir)
    assert losses(resumed.run_dir) == losses(undisturbed.run_dir)
    assert path.with_name(path.name + ".damaged").read_bytes() == bad
    log = (resumed.run_dir / "train.log").read_text()
    assert log.count("is damaged") == 1
    assert "resumes from" not in log


@pytest.mark.parametrize("phase", ["pretrain", "fit"])
def test_a_checkpoint_of_earlier_releases_without_a_checksum_is_resumed(
    undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    with monkeypatch.context() as patch:
        break_at(patch, MODULES[phase], 2)
        patch.setattr("deepsad_pl.common.checkpoints.sealed", lambda archive: archive)
        with pytest.raises(RuntimeError, match="power"):
            run(tmp_path)
    for path in tmp_path.rglob("*.ckpt"):
        assert path.read_bytes()[-22:].startswith(b"PK\5\6")
    resumed = run(tmp_path)
    assert_same_bits(resumed.run_dir, undisturbed.run_dir)
    log = (resumed.run_dir / "train.log").read_text()
    assert f"{phase} resumes from" in log
    assert "damaged" not in log


def test_the_traceback_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_at(monkeypatch, DeepSADModule, 1)
    with pytest.raises(RuntimeError):
        run(tmp_path)
    (log,) = tmp_path.rglob("train.log")
    assert "Traceback" in log.read_text()
    assert "RuntimeError: the power is out" in log.read_text()


def test_checkpoints_are_not_saved_more_often_than_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_at(monkeypatch, DeepSADModule, 5)
    with pytest.raises(RuntimeError):
        run(tmp_path, *SHORT, "trainer.checkpoint_seconds=3600")
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    assert checkpoint.name == "pretrain.ckpt"
    assert torch.load(checkpoint, weights_only=True)["epoch"] + 1 == 6


def start_and_kill(words: list[str], cwd: Path, pattern: str) -> None:
    """Start an experiment and kill it as soon as a file of that name exists."""
    with background("train.py", *words, cwd=cwd) as process:
        wait_for(lambda: list(cwd.rglob(pattern)), process)
        process.kill()
        process.wait(60)
    assert process.returncode == -signal.SIGKILL


def test_a_process_killed_in_each_phase_resumes_to_the_same_bits(tmp_path: Path) -> None:
    epochs = 30
    overrides = [f"{group}.{key}" for group in ("pretrain", "method") for key in (f"epochs=[{epochs}]", "lr=[1e-3]")]
    overrides += ["trainer.checkpoint_seconds=0", "logger=csv"]
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in CHECKPOINTS.values():
        start_and_kill(overrides, killed, name)
        assert not list(killed.rglob("metrics.json"))
    assert [path.name for path in killed.iterdir()] == ["runs"]

    resumed, undisturbed = run(killed / "runs", *overrides), run(tmp_path / "undisturbed", *overrides)
    assert not resumed.was_finished
    assert_same_bits(resumed.run_dir, undisturbed.run_dir)
    assert losses(resumed.run_dir) == losses(undisturbed.run_dir)
    assert [row[:3] for row in losses(resumed.run_dir)][1:] == each_step_once(epochs)
    log = (resumed.run_dir / "train.log").read_text()
    assert "pretrain resumes from" in log
    assert "fit resumes from" in log


def test_a_terminated_run_reports_it_and_fails(tmp_path: Path) -> None:
    overrides = [*SHORT, f"output_dir={tmp_path}", "pretrain.epochs=[100000]", "pretrain.lr=[1e-4]"]
    with background("train.py", *overrides, cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.rglob("pretrain.ckpt")), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    (log,) = tmp_path.rglob("train.log")
    assert "the run was stopped" in log.read_text()
    assert not list(tmp_path.rglob("metrics.json"))
