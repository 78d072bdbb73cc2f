"""Stacks that are killed, stopped, fail, meet other processes, or run their whole schedule end like single runs."""

import json
import logging
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import slow_but
from processes import background, wait_for
from stacks import (
    CLI,
    SHORT,
    STACKED,
    alone,
    assigned,
    each_step_once,
    losses,
    outcomes,
    output_of,
    records,
    scores,
    together,
)
from wandb_file import read, run_files

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.common.ranges import Range
from deepsad_pl.experiment.finished import Outcome, locked_run
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.stacked.callbacks import ReplicaLosses


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    """Set up log messages as the scripts do, since no script runs here."""
    caplog.set_level(logging.INFO)


# Killed and stopped stacks.

LONG = ("trainer.checkpoint_seconds=0", "trainer.threads=1")


@pytest.mark.slow
def test_a_stack_killed_in_each_phase_resumes(tmp_path: Path) -> None:
    epochs = {"pretrain": 40, "fit": 40}
    schedule = ("pretrain.epochs=[40]", "method.epochs=[40]", "pretrain.lr=[1e-3]", "method.lr=[1e-3]")
    words = ("logger=csv", *LONG, *schedule)
    for name in ("pretrain.ckpt", "last.ckpt"):
        with background("train.py", *STACKED, *words, "seed=0,1,2", "hydra.launcher.n_jobs=1", cwd=tmp_path) as sweep:
            wait_for(lambda name=name: len(list(tmp_path.rglob(name))) == 3, sweep)  # type: ignore[misc]
            sweep.kill()
            sweep.wait()
        assert not records(tmp_path)

    cells = [(*words, f"seed={seed}") for seed in range(3)]
    undisturbed = outcomes(together(tmp_path / "undisturbed", *cells))
    resumed = outcomes(together(tmp_path / "runs", *cells))
    for outcome, expected in zip(resumed, undisturbed, strict=True):
        run_dir, log = outcome.run_dir, (outcome.run_dir / "train.log").read_text()
        assert f"pretrain resumes from {run_dir.relative_to(tmp_path)}" in log
        assert f"fit resumes from {run_dir}" in log
        assert log.count("resumes from") == 2
        assert losses(run_dir)[0] == each_step_once(epochs)
        assert outcome.record["auroc"] == pytest.approx(expected.record["auroc"], abs=1e-3)
        # Rounding differs in another stack, and 320 steps amplify it.
        assert scores(run_dir) == pytest.approx(scores(expected.run_dir), rel=0.02)
        assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"pretrain.ckpt", "last.ckpt"}


@pytest.mark.parametrize(
    ("processes", "number"),
    [
        (1, signal.SIGTERM),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_terminated_stack_reports_it_and_resumes_alone(
    tmp_path: Path, processes: int, number: signal.Signals
) -> None:
    schedule = ("pretrain.epochs=[120]", "pretrain.lr=[1e-3]", "method.epochs=[1]", "method.lr=[1e-3]")
    words = (*LONG, "logger=wandb" if processes == 2 else "logger=csv", *schedule)
    launched = (*STACKED, *words, "seed=0,1,2,3", f"hydra.launcher.n_jobs={processes}")
    with background("train.py", *launched, cwd=tmp_path) as sweep:
        wait_for(lambda: len(list(tmp_path.rglob("pretrain.ckpt"))) == 4, sweep)
        sweep.send_signal(number)
        text = sweep.communicate(timeout=60)[0]
    assert sweep.returncode == 128 + number, text
    assert "Traceback" not in text
    assert processes == 1 or "interrupted; the same command resumes it" in text
    assert not records(tmp_path)
    run_dirs = [path.parent for path in tmp_path.rglob("train.log")]
    assert len(run_dirs) == 4
    for run_dir in run_dirs:
        log = (run_dir / "train.log").read_text()
        assert log.count("the run was stopped") == 1
        assert "the run failed" not in log
        if processes == 2:
            (path,) = run_files(run_dir)
            assert read(path).exit_codes == [1]

    outcome = alone(tmp_path / "runs", *words, "seed=2")
    assert "pretrain resumes from" in (outcome.run_dir / "train.log").read_text()
    if processes == 1:
        assert losses(outcome.run_dir)[0] == each_step_once({"pretrain": 120, "fit": 1})


# A failing experiment.

# The bounds of the settings would refuse what makes a loss that is no number.
NO_BOUNDS = {"DEEPSAD_TEST_HOOK": "no_bounds"}


def test_an_experiment_that_turns_nan_fails_alone(cli: CLI, tmp_path: Path) -> None:
    rates = "method.lr=[1e-3],[1e30]"
    words = ("logger=none", "pretrain=none", "method.epochs=[2]", rates, "seed=0,1")
    done = cli("train.py", *STACKED, *words, env=NO_BOUNDS)
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    told = "the fit loss is nan in epoch 0; lower method.lr or look for extreme values in the data"
    failed = text[text.index("2 of 4 jobs failed:") :].splitlines()[1:3]
    assert [told in line and "method.lr=[1e+30]" in line for line in failed] == [True, True]
    finished = {path.parent for path in tmp_path.rglob("metrics.json")}
    assert len(finished) == 2
    for path in tmp_path.rglob("train.log"):
        assert (told in path.read_text()) == (path.parent not in finished)
        assert ("Traceback" in path.read_text()) == (path.parent not in finished)


def test_a_nan_changes_nothing_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Range, "__contains__", lambda *_: True)
    words = ("logger=none", "pretrain=none", "method.epochs=[3]")
    cells = [(*words, f"method.lr=[{rate}]", f"seed={seed}") for seed, rate in enumerate(("1e-3", "1e30", "1e-2"))]
    results = together(tmp_path / "with", *cells)
    assert isinstance(results[1], DeepSADError)
    for i in (0, 2):
        result = results[i]
        assert isinstance(result, Outcome)
        expected = alone(tmp_path / "without", *cells[i])
        assert scores(result.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)


def test_a_failing_experiment_of_a_study_leaves_a_note(cli: CLI, tmp_path: Path) -> None:
    words = ("study=eta", "dataset=digits", "study.normal_classes=[0]", "study.anomaly_classes=[1,2]")
    words += ("study.axes.eta=[1.0,1.0e+39]", "trainer.max_epochs=2", "logger=none", "pretrain=none")
    done = cli("sweep.py", *words, "hydra/launcher=stacked", "hydra.launcher.n_jobs=1", env=NO_BOUNDS)
    text = output_of(done)
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert "2 of 4 experiments are not finished" in text
    assert "the fit loss is nan in epoch 0" in text
    assert {record["trainer"]["replicas"] for record in records(tmp_path)} == {4}
    assert len(records(tmp_path)) == 2
    notes = [json.loads(path.read_text()) for path in tmp_path.glob("runs/studies/eta/failures/*.json")]
    assert len(notes) == 2
    for note in notes:
        assert "the fit loss is nan" in note["error"]
        assert "Traceback" in note["traceback"]
    status = cli("sweep.py", *words[:5], "action=status", env=NO_BOUNDS)
    assert status.returncode == 0, output_of(status)
    assert "the fit loss is nan" in status.stdout


def test_an_error_of_the_whole_stack_fails_all_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a full disk at the end of a training."""

    def full(*_: Any) -> None:
        raise OSError("no space left")

    cells = [("logger=none", "pretrain=none", *SHORT[:2], f"seed={seed}") for seed in (0, 1)]
    with monkeypatch.context() as patched:
        patched.setattr("deepsad_pl.stacked.experiments.write_finished", full)
        results = together(tmp_path, *cells)
    assert [str(result) for result in results] == ["no space left"] * 2
    for path in tmp_path.rglob("train.log"):
        assert "OSError: no space left" in path.read_text()
    assert len(outcomes(together(tmp_path, *cells))) == 2


def test_a_disk_that_is_full_for_one_affects_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [("logger=none", "trainer.checkpoint_seconds=0", *SHORT, f"seed={seed}") for seed in range(3)]

    def refuse(path: Path, content: bytes) -> None:
        if "seed_1" in str(path):
            raise OSError("no space left")
        write_atomic(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("deepsad_pl.stacked.callbacks.write_atomic", refuse)
        results = together(tmp_path / "with", *cells)
    assert [isinstance(result, Outcome) for result in results] == [True, False, True]
    assert str(results[1]) == "no space left"
    for i in (0, 2):
        result = results[i]
        assert isinstance(result, Outcome)
        expected = alone(tmp_path / "without", *cells[i])
        assert scores(result.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)


@pytest.mark.parametrize("checkpointed", slow_but((True,), (True, False)))
def test_a_stack_that_does_not_fit_into_a_gpu_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, checkpointed: bool
) -> None:
    """Run out of memory during a training of more than two experiments; what it had learned but not saved is lost."""
    words = ("logger=csv", "pretrain=none", "method.epochs=[4]", "method.lr=[1e-3]")
    words += (f"trainer.checkpoint_seconds={0 if checkpointed else 1000}",)
    cells = [(*words, f"seed={seed}") for seed in range(5)]
    epoch_end = ReplicaLosses.on_train_epoch_end

    def run_out(self: Any, trainer: Any, pl_module: Any) -> None:
        epoch_end(self, trainer, pl_module)
        if len(self.stack) > 2 and trainer.current_epoch == 2:
            pl_module.unstack()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(ReplicaLosses, "on_train_epoch_end", run_out)
        found = outcomes(together(tmp_path / "halved", *cells))
    # 5 -> 3 + 2 -> 2 + 1 + 2
    assert [outcome.record["trainer"]["replicas"] for outcome in found] == [2, 2, 1, 2, 2]
    assert "a stack of 5 does not fit into GPU memory" in caplog.text
    assert "a stack of 3 does not fit into GPU memory" in caplog.text
    for outcome, cell in zip(found, cells, strict=True):
        expected = alone(tmp_path / "alone", *cell)
        assert scores(outcome.run_dir) == pytest.approx(scores(expected.run_dir), rel=1e-3)
        assert losses(outcome.run_dir)[0] == losses(expected.run_dir)[0]


# What experiments share.


def test_experiments_of_a_stack_train_their_autoencoder_once(tmp_path: Path) -> None:
    cells = [("logger=csv", *SHORT, f"method.eta={eta}") for eta in (0.1, 1.0, 10.0)]
    first, *others = [outcome.record for outcome in outcomes(together(tmp_path, *cells))]
    assert first["reused"] == {}
    assert first["seconds"]["pretrain"] > 0
    (entry,) = (tmp_path / "cache").glob("*.bin")
    for record in others:
        assert record["reused"]["pretrain"]["entry"] == entry.stem
        assert record["reused"]["pretrain"]["seconds"] == pytest.approx(first["seconds"]["pretrain"], abs=1e-3)
        assert record["seconds"]["pretrain"] == 0
    assert len({record["auroc"] for record in (first, *others)}) == 3
    phases = [{row[0] for row in losses(path.parent)[0]} for path in sorted(tmp_path.rglob("losses.csv"))]
    assert sorted(map(len, phases)) == [1, 1, 2]


def test_an_experiment_requested_twice_runs_once(tmp_path: Path) -> None:
    cells = [("method=deep_svdd", "logger=none", *SHORT, f"scenario.gamma_l={gamma}") for gamma in (0.05, 0.1)]
    first, second = outcomes(together(tmp_path, *cells))
    assert first.run_dir == second.run_dir
    assert (first.was_finished, second.was_finished) == (False, True)
    assert second.record == first.record


# Other processes.


def test_an_experiment_of_another_process_is_waited_for_and_stops_no_other(tmp_path: Path) -> None:
    cells = [("logger=none", "pretrain=none", *SHORT[:2], f"seed={seed}") for seed in (0, 1, 2, 3)]
    plans: list[Plan] = [assigned(tmp_path, *cell).plan for cell in cells]
    held, finished_meanwhile = threading.Event(), threading.Event()

    def hold() -> None:
        with locked_run(plans[1]), locked_run(plans[2]):
            held.set()
            end = time.monotonic() + 60
            while time.monotonic() < end and not finished_meanwhile.is_set():
                if all((plans[i].run_dir / "metrics.json").exists() for i in (0, 3)):
                    finished_meanwhile.set()
                time.sleep(0.01)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    results = outcomes(together(tmp_path, *cells))
    other.join()
    assert finished_meanwhile.is_set()
    # The experiments left there form a separate stack.
    assert [outcome.record["trainer"]["replicas"] for outcome in results] == [2, 2, 2, 2]
    assert [outcome.record["seed"] for outcome in results] == [0, 1, 2, 3]


def test_two_sweeps_that_share_experiments_both_end(tmp_path: Path) -> None:
    common = (*STACKED, "logger=none", "trainer.max_epochs=10", "hydra.launcher.n_jobs=1")
    with (
        background("train.py", *common, "seed=0,1,2,3", cwd=tmp_path) as one,
        background("train.py", *common, "seed=3,2,4,1", "method=deep_sad,deep_svdd", cwd=tmp_path) as other,
    ):
        texts = [process.communicate(timeout=240)[0] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], texts
    assert len(records(tmp_path)) == 9
    for path in tmp_path.rglob("train.log"):
        assert path.read_text().count(" on digits, normal class 0") == 1, "trained twice"


# The full schedule.


def differences(where: Path, cells: Sequence[Sequence[str]]) -> list[float]:
    """|AUROC difference| of each cell, trained in a stack and alone."""
    words = ("logger=none", "trainer.threads=1", "pretrain.cache=false")
    stacked = outcomes(together(where / "stacked", *[(*cell, *words) for cell in cells]))
    single = [alone(where / "alone", *cell, *words) for cell in cells]
    return [abs(a.record["auroc"] - b.record["auroc"]) for a, b in zip(stacked, single, strict=True)]


@pytest.mark.slow
def test_full_runs_on_digits_agree_alone_and_stacked(tmp_path: Path) -> None:
    cells = [(f"scenario.normal_class={i}", f"scenario.anomaly_class={i + 1}", f"seed={i}") for i in (0, 3, 8)]
    found = differences(tmp_path, cells)
    assert sum(found) / len(found) <= 2e-3


@pytest.mark.slow
def test_full_runs_on_cardio_agree_alone_and_stacked(tmp_path: Path, real_data: Path) -> None:
    cells = [("dataset=cardio", f"data_dir={real_data}", f"seed={seed}") for seed in range(3)]
    found = differences(tmp_path, cells)
    assert sum(found) / len(found) <= 2e-3
