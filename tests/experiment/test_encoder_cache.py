"""An autoencoder is trained once: which experiments share it, also after kills and damage and with many processes."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from processes import Script, background, wait_for

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.experiment import encoder_cache, shared_training
from deepsad_pl.experiment import fit_deep as fitting
from deepsad_pl.experiment import run as experiment_module
from deepsad_pl.experiment.encoder_cache import Entry, locked_entry
from deepsad_pl.experiment.results_version import RESULTS_VERSION
from deepsad_pl.experiment.run import Outcome

Experiment = Callable[..., Outcome]
SHORT = "trainer.max_epochs=1"


@pytest.fixture(autouse=True)
def at_info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that were actually trained, in order."""
    names: list[str] = []
    train = fitting.train

    def note(plan: Any, phase: Any, *rest: Any) -> Any:
        names.append(f"{plan.method.name}/{phase.name}")
        return train(plan, phase, *rest)

    monkeypatch.setattr(fitting, "train", note)
    return names


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs" / "cache").glob("*.bin"))


def test_an_autoencoder_of_an_older_version_of_the_results_is_trained_again(
    experiment: Experiment, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = experiment(SHORT)
    monkeypatch.setattr(shared_training, "RESULTS_VERSION", RESULTS_VERSION + 1)
    experiment(SHORT, "method.eta=10")
    assert trained.count("deep_sad/pretrain") == len(entries(tmp_path)) == 2
    # The finished run is still a result of its settings.
    assert experiment(SHORT).run_dir == older.run_dir
    assert trained.count("deep_sad/fit") == 2


def test_semi_supervised_methods_of_a_cell_share_an_autoencoder(
    experiment: Experiment, trained: list[str], tmp_path: Path
) -> None:
    experiment(SHORT)
    for eta in (0.01, 0.1, 10, 100):
        outcome = experiment(SHORT, f"method.eta={eta}")
    (path,) = entries(tmp_path)
    reused = outcome.record["reused"]["pretrain"]
    assert reused["entry"] == path.stem
    assert reused["seconds"] > 0
    assert reused["trained_with"] == {"device": "cpu", "threads": torch.get_num_threads(), "torch": version("torch")}
    entry = Entry(path).load()
    assert entry is not None
    assert json.loads(entry["determined_by"])["training"]["name"] == "autoencoder"
    experiment(SHORT, "method=ssad_hybrid", "method.selection=none")
    assert trained.count("deep_sad/pretrain") == 1
    assert not any(name.startswith("ssad_hybrid") for name in trained)
    assert len(entries(tmp_path)) == 1


def test_unsupervised_methods_share_an_autoencoder_across_known_classes_and_gamma_l(
    experiment: Experiment, trained: list[str], tmp_path: Path
) -> None:
    experiment(SHORT, "method=deep_svdd")
    experiment(SHORT, "method=soft_boundary_svdd", "scenario.anomaly_class=2")
    experiment(SHORT, "method=autoencoder", "scenario.gamma_l=0.1")
    experiment(SHORT, "method=ocsvm_hybrid", "method.selection=none", "scenario.anomaly_class=null")
    experiment(SHORT, "method=iforest_hybrid")
    experiment(SHORT, "method=kde_hybrid")
    assert trained == ["deep_svdd/pretrain", "deep_svdd/fit", "soft_boundary_svdd/fit"]
    experiment(SHORT)
    assert trained[-2:] == ["deep_sad/pretrain", "deep_sad/fit"]
    assert len(entries(tmp_path)) == 2
    # Labeled anomalies are left out of the autoencoder's data, so they do not matter.
    experiment(SHORT, "pretrain.data=unlabeled")
    assert trained[-1] == "deep_sad/fit"
    assert len(entries(tmp_path)) == 2


def test_both_generative_models_never_share_with_the_autoencoder(experiment: Experiment, trained: list[str]) -> None:
    experiment(SHORT)
    experiment(SHORT, "method=ss_dgm_m1m2")
    experiment(SHORT, "method=ss_dgm_m1m2", "method.hidden=[8]")
    assert trained.count("ss_dgm_m1m2/pretrain") == 1


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "pretrain.epochs=[0,1]",
        "pretrain.weight_decay=0.1",
        "pretrain.batch_size=50",
        "pretrain.loss=cross_entropy",
        "dataset.network.dense=[16]",
        "trainer.precision=bf16-mixed",
        "scenario.normal_class=2",
        "scenario.gamma_p=0.2",
        "scenario.anomaly_class=2",
    ],
)
def test_a_setting_that_matters_makes_another_autoencoder(
    experiment: Experiment, trained: list[str], tmp_path: Path, change: str
) -> None:
    experiment(SHORT)
    experiment(SHORT, change)
    assert trained == ["deep_sad/pretrain", "deep_sad/fit"] * 2
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("change", ["method.eta=2", "method.weight_decay=0.1", "method.batch_size=50"])
def test_a_setting_that_does_not_matter_makes_no_other_autoencoder(
    experiment: Experiment, trained: list[str], change: str
) -> None:
    experiment(SHORT)
    experiment(SHORT, change)
    assert trained == ["deep_sad/pretrain", "deep_sad/fit", "deep_sad/fit"]


@pytest.mark.parametrize("method", ["deep_sad", "deep_svdd", "autoencoder", "kde_hybrid", "ss_dgm_m1m2"])
def test_a_warm_cache_gives_the_same_results_as_a_cold_one(
    experiment: Experiment, trained: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    arguments = ("trainer.max_epochs=2", f"method={method}")
    cold = experiment(*arguments, "pretrain.cache=false", f"output_dir={tmp_path / 'cold'}")
    filled = experiment(*arguments)
    times = len(trained)
    assert "reused" not in caplog.text
    shutil.rmtree(filled.run_dir.parent)
    warm = experiment(*arguments)
    assert "reused the" in caplog.text
    phase = "fit" if method == "autoencoder" else "pretrain"
    assert set(warm.record["reused"]) == {phase}
    assert warm.record["seconds"][phase] == 0
    assert f"{method}/{phase}" not in trained[times:]
    assert filled.record["auroc"] == cold.record["auroc"]
    for outcome in (warm,):
        assert (outcome.run_dir / "scores.csv").read_bytes() == (cold.run_dir / "scores.csv").read_bytes()
        assert outcome.record["auroc"] == cold.record["auroc"]
        assert outcome.record["spread"] == cold.record["spread"]
        for path in (cold.run_dir / "checkpoints").glob("*.ckpt"):
            ours, theirs = (
                torch.load(p, weights_only=True) for p in (outcome.run_dir / "checkpoints" / path.name, path)
            )
            assert ours["hyper_parameters"] == theirs["hyper_parameters"]
            assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in theirs["state_dict"])


def test_without_a_cache_nothing_is_stored_or_reused(
    experiment: Experiment, trained: list[str], tmp_path: Path
) -> None:
    experiment(SHORT, "pretrain.cache=false")
    assert not (tmp_path / "runs" / "cache").exists()
    shutil.rmtree(tmp_path / "runs" / "digits")
    experiment(SHORT)
    shutil.rmtree(tmp_path / "runs" / "digits")
    experiment(SHORT, "pretrain.cache=false")
    assert trained.count("deep_sad/pretrain") == 3


@pytest.mark.parametrize("method", ["deep_sad", "autoencoder"])
def test_a_forced_run_trains_its_autoencoder_again_and_keeps_it(
    experiment: Experiment, trained: list[str], tmp_path: Path, method: str
) -> None:
    experiment(SHORT, f"method={method}")
    once = list(trained)
    (path,) = entries(tmp_path)
    before = path.stat().st_mtime_ns
    assert experiment(SHORT, f"method={method}", "force=true").record["reused"] == {}
    assert trained == once * 2
    assert path.stat().st_mtime_ns > before


def test_the_record_does_not_depend_on_a_kill(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment(SHORT)
    expected = experiment(SHORT, "method.eta=2").record

    def fail(*_: Any) -> None:
        raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr(experiment_module, "write_record", fail)
        with pytest.raises(RuntimeError, match="power"):
            experiment(SHORT, "method.eta=2", "force=false", "seed=0", "method.weight_decay=0.5")
    resumed = experiment(SHORT, "method.eta=2", "method.weight_decay=0.5").record
    assert resumed["reused"] == expected["reused"] != {}
    assert resumed["seconds"]["pretrain"] == 0


def test_an_autoencoder_of_an_unfinished_run_still_gets_into_the_cache(
    experiment: Experiment, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Entry, "store", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            experiment(SHORT)
    assert entries(tmp_path) == []
    experiment(SHORT)
    experiment(SHORT, "method.eta=2")
    assert trained.count("deep_sad/pretrain") == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
@pytest.mark.parametrize("name", ["pretrain.ckpt", "last.ckpt"])
def test_a_damaged_checkpoint_is_reported_and_rebuilt(
    experiment: Experiment, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    outcome = experiment(SHORT)
    scores = (outcome.run_dir / "scores.csv").read_bytes()
    (outcome.run_dir / "metrics.json").unlink()
    if name == "pretrain.ckpt":
        (outcome.run_dir / "checkpoints" / "last.ckpt").unlink()
    path = outcome.run_dir / "checkpoints" / name
    good = path.read_bytes()
    weight = torch.load(path, weights_only=True)["state_dict"]["encoder.layers.0.weight"]
    bad = bytearray(good)
    bad[good.index(weight.permute(0, 2, 3, 1).numpy().tobytes()[:16]) + 3] ^= 64
    path.write_bytes({"flip": bytes(bad), "cut": good[:-100], "empty": b""}[damage])
    assert (experiment(SHORT).run_dir / "scores.csv").read_bytes() == scores
    assert "is damaged" in caplog.text


def test_remains_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x.bin")
    (tmp_path / ".x.bin.abcdefgh").write_bytes(b"half")
    entry.store({"a": torch.ones(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_reported_dropped_and_rebuilt(
    experiment: Experiment, trained: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    experiment(SHORT)
    (path,) = entries(tmp_path)
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes({"flip": bytes(bad), "cut": good[:-100], "empty": b""}[damage])
    experiment(SHORT, "method.eta=2")
    assert [record.levelname for record in caplog.records if "damaged" in record.message] == ["WARNING"]
    assert path.with_name(path.name + ".damaged").exists()
    assert trained.count("deep_sad/pretrain") == 2
    experiment(SHORT, "method.eta=3")
    assert trained.count("deep_sad/pretrain") == 2


@pytest.mark.parametrize("wrong", ["determined_by", "shape", "finite"])
def test_an_intact_entry_of_another_training_is_reported_and_replaced(
    experiment: Experiment, trained: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    first = experiment(SHORT)
    (path,) = entries(tmp_path)
    checkpoint = Entry(path).load()
    assert checkpoint is not None
    weight = checkpoint["state_dict"]["encoder.layers.0.weight"]
    match wrong:
        case "determined_by":
            checkpoint["determined_by"] = checkpoint["determined_by"].replace('"seed": 0', '"seed": 1')
        case "shape":
            checkpoint["state_dict"]["encoder.layers.0.weight"] = weight[1:]
        case "finite":
            weight[0, 0, 0, 0] = torch.inf
    Entry(path).store(checkpoint)
    second = experiment(SHORT, "method.weight_decay=0.5")
    (record,) = [record for record in caplog.records if "is damaged" in record.getMessage()]
    assert record.levelname == "WARNING"
    assert trained.count("deep_sad/pretrain") == 2
    assert second.record["reused"] == {}
    assert second.record["spread"]["pretrain"] == first.record["spread"]["pretrain"]
    renewed = Entry(path).load()
    assert renewed is not None
    assert json.loads(renewed["determined_by"])["seed"] == 0
    assert {file.name for file in path.parent.glob(f"{path.name}*")} == {path.name, f"{path.name}.damaged"}


def test_an_entry_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise OSError("the disk is gone")

    entry = Entry(tmp_path / "x.bin")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(OSError, match="disk"):
            entry.store({"a": torch.ones(3)})
    assert list(tmp_path.iterdir()) == []
    assert entry.load() is None
    entry.store({"a": torch.ones(3)})
    loaded = entry.load()
    assert loaded is not None
    assert torch.equal(loaded["a"], torch.ones(3))


def test_a_process_killed_while_pretraining_leaves_no_entry_and_no_lock(tmp_path: Path) -> None:
    arguments = ["pretrain.epochs=[100000]", "pretrain.lr=[1e-4]", "trainer.checkpoint_seconds=0", "logger=none"]
    with background("train.py", *arguments, cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.rglob("pretrain.ckpt")), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert entries(tmp_path) == []
    (lock,) = (tmp_path / "runs" / "cache").iterdir()
    with FileLock(lock, timeout=0):
        pass


@contextmanager
def held_elsewhere(folder: Path, what: dict[str, int], code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the lock of an entry while it runs the code."""
    with locked_entry(folder, what) as entry:
        lock = entry.path.with_suffix(".lock")
    program = f"import time; from filelock import FileLock\nwith FileLock({str(lock)!r}): print(flush=True); {code}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder


def test_a_process_waits_for_another_one_at_the_same_entry_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with held_elsewhere(tmp_path, {"cell": 1}, "time.sleep(0.5)") as holder:
        with locked_entry(tmp_path, {"cell": 2}):
            assert holder.poll() is None
        assert "waiting" not in caplog.text
        with locked_entry(tmp_path, {"cell": 1}):
            assert "waiting" in caplog.text
            assert holder.wait(10) == 0


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path, {"cell": 1}, "time.sleep(600)") as holder:
        holder.kill()
        with locked_entry(tmp_path, {"cell": 1}) as entry:
            assert entry.load() is None


def test_two_processes_train_one_autoencoder(tmp_path: Path) -> None:
    words = ("train.py", "logger=none", "pretrain.epochs=[100]", "pretrain.lr=[1e-4]", "method.epochs=[1,0]")
    both = [Script(*words, f"method.eta={eta}", cwd=tmp_path) for eta in (1, 2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("reused the autoencoder" in text for text in printed) == 1
    assert len(entries(tmp_path)) == 1


def test_the_key_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    with locked_entry(tmp_path, {"a": 1, "b": {"c": 2, "d": 3}}) as one:
        path = one.path
    with locked_entry(tmp_path, {"b": {"d": 3, "c": 2}, "a": 1}) as other:
        assert other.path == path
    with locked_entry(tmp_path, {"b": {"d": 3, "c": 2}, "a": 2}) as third:
        assert third.path != path


def test_an_unwritable_cache_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DeepSADError, match=r"pretrain\.cache=false"), locked_entry(tmp_path / "cache", {}):
        pass


def test_pickled_code_in_an_entry_is_not_executed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = Entry(tmp_path / "x.bin")
    entry.store({"a": Path("code")})
    assert entry.load() is None
    assert "torch cannot read it (UnpicklingError)" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin.damaged"]


def test_the_digest_protects_an_entry(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x.bin")
    write_atomic(entry.path, encoder_cache._DIGEST(b"other").digest() + b"content")
    assert entry.load() is None
    assert not entry.path.exists()
