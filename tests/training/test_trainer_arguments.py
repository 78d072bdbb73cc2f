"""Trainer arguments and outside callbacks: checked before any work, part of the identity, used in all trainings."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from broken_runs import broken_at
from planned import plan_of, problems_of, settings_of
from processes import ROOT
from pytorch_lightning import Callback, Trainer

from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.encoder_cache import entry_key
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.stacked.grouping import stack_key
from deepsad_pl.sweep.decisive import is_decisive
from deepsad_pl.training.trainer_arguments import trainer_arguments

CLI = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = ROOT / "examples" / "trainer"
SHORT = ("method.epochs=[6]", "method.lr=[1e-3]", "pretrain.epochs=[5]", "pretrain.lr=[1e-3]", "logger=csv")
CLIPPED = "+trainer.extra.gradient_clip_val=1.0"
# The loss never improves by 1e9, so the second epoch is the last.
STOPPING = (
    "trainer.callbacks=[{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: train_loss, patience: 1, "
    "min_delta: 1e9}]"
)


def run(output_dir: Path, *overrides: str) -> Outcome:
    settings = settings_of(f"output_dir={output_dir}", *SHORT, *overrides)
    return run_experiment(make_plan(settings), config=settings, config_yaml="", command="")


def steps(run_dir: Path, phase: str) -> list[int]:
    rows = [line.split(",") for line in (run_dir / "losses.csv").read_text().splitlines()]
    return [int(row[2]) for row in rows if row[0] == phase]


def test_the_trainers_arguments_are_read_from_its_source() -> None:
    import inspect

    assert trainer_arguments() == set(inspect.signature(Trainer).parameters)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("+trainer.extra.max_epochs=3", "trainer.extra.max_epochs is 3, but deepsad_pl sets max_epochs itself"),
        ("+trainer.extra.logger=true", "choose logger=csv or logger=wandb"),
        ("+trainer.extra.fast_dev_run=true", "set trainer.max_epochs=1"),
        ("+trainer.extra.gradient_clip_value=1", "trainer.extra.gradient_clip_value is not an argument of Lightning's"),
        (
            "trainer.callbacks=[EarlyStopping]",
            "trainer.callbacks[0] is 'EarlyStopping'; it must be a mapping with _target_",
        ),
        ("trainer.callbacks=[{_target_: nowhere.at_all.Stop}]", "nowhere.at_all.Stop"),
        (
            "trainer.callbacks=[{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: a, pace: 1}]",
            "trainer.callbacks[0].pace",
        ),
    ],
)
def test_arguments_that_cannot_be_set_are_refused_before_any_work(words: str, told: str) -> None:
    (problem,) = problems_of(words)
    assert told in problem


def test_all_problems_are_reported_at_once() -> None:
    assert (
        len(problems_of("+trainer.extra.devices=2", "+trainer.extra.nonsense=1", "trainer.callbacks=[1]", "seed=-1"))
        == 4
    )


def test_an_argument_without_a_plus_is_refused_with_the_way_to_add_it(cli: CLI) -> None:
    done = cli("train.py", "trainer.extra.gradient_clip_val=1")
    assert done.returncode != 0
    assert "write +trainer.extra.gradient_clip_val=1 to add it" in " ".join(done.stderr.split())


def test_gradients_are_not_clipped_in_bf16() -> None:
    (problem,) = problems_of(CLIPPED, "trainer.precision=bf16-mixed")
    assert "use trainer.precision=32-true" in problem


def test_arguments_are_part_of_the_identity_and_the_cache_key() -> None:
    words = [(), (CLIPPED,), (STOPPING,), (STOPPING.replace("patience: 1", "patience: 2"),)]
    plans = [plan_of(*some) for some in words]
    assert len({plan.run_dir for plan in plans}) == len(words)
    keys = [phase.determined_by for plan in plans for phase in build(plan, load_data(plan)).phases[:1]]
    assert len({entry_key(key) for key in keys if key is not None}) == len(words)
    assert "trainer" not in plans[0].identity
    assert plans[1].identity["trainer"] == {"extra": {"gradient_clip_val": 1.0}}


def test_arguments_do_not_affect_a_method_without_training() -> None:
    assert plan_of("method=iforest_raw", CLIPPED).run_dir == plan_of("method=iforest_raw").run_dir


def test_changed_code_changes_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    words = "trainer.callbacks=[{_target_: a_changed_callback.Nothing}]"
    file, code = tmp_path / "a_changed_callback.py", "from pytorch_lightning import Callback as Nothing\n"
    file.write_text(code)
    before = plan_of(words).run_dir
    assert plan_of(words).run_dir == before
    file.write_text(f"{code}# changed\n")
    assert plan_of(words).run_dir != before


def test_arguments_and_callbacks_work_in_single_runs() -> None:
    assert stack_key(plan_of()) is not None
    assert stack_key(plan_of(CLIPPED)) is None
    assert stack_key(plan_of(STOPPING)) is None


def test_arguments_count_as_settings_that_decide_a_studys_results() -> None:
    assert is_decisive("+trainer.extra.gradient_clip_val=1")
    assert is_decisive(STOPPING)
    assert not is_decisive("trainer.threads=1")


def test_early_stopping_ends_both_trainings(tmp_path: Path) -> None:
    done = run(tmp_path, STOPPING)
    assert done.record["epochs"] == {"pretrain": 2, "fit": 2}
    assert steps(done.run_dir, "pretrain") == steps(done.run_dir, "fit") == list(range(8))
    for name in ("pretrain.ckpt", "last.ckpt"):
        checkpoint = torch.load(done.run_dir / "checkpoints" / name, weights_only=True)
        assert checkpoint["epoch"] == 1
        assert all(value == value for value in checkpoint["spread"].values())
    # The run is recognized as finished: another training would write its losses.
    (done.run_dir / "metrics.json").unlink()
    (done.run_dir / "losses.csv").unlink()
    again = run(tmp_path, STOPPING)
    assert again.record["epochs"] == done.record["epochs"]
    assert again.record["auroc"] == done.record["auroc"]
    assert not (again.run_dir / "losses.csv").exists()


def test_the_epochs_of_a_usual_run_are_recorded(tmp_path: Path) -> None:
    assert run(tmp_path).record["epochs"] == {"pretrain": 5, "fit": 6}


@pytest.mark.parametrize("phase", ["pretrain", "fit"])
@pytest.mark.parametrize("break_after", [0, 1])
def test_an_interrupted_run_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, break_after: int
) -> None:
    words = (STOPPING.replace("patience: 1", "patience: 2"), CLIPPED, "trainer.checkpoint_seconds=0")
    whole = run(tmp_path / "whole", *words)
    assert whole.record["epochs"] == {"pretrain": 3, "fit": 3}
    with monkeypatch.context() as patch:
        broken_at(patch, phase, epoch=break_after + 1)
        with pytest.raises(RuntimeError, match="the power is out"):
            run(tmp_path / "broken", *words)
    resumed = run(tmp_path / "broken", *words)
    assert resumed.record["epochs"] == whole.record["epochs"]
    assert (resumed.run_dir / "scores.csv").read_bytes() == (whole.run_dir / "scores.csv").read_bytes()


def test_a_run_interrupted_after_its_last_epoch_adds_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", STOPPING)

    def fail(*_: Any) -> None:
        raise RuntimeError("the power is out")

    with monkeypatch.context() as patch:
        patch.setattr("deepsad_pl.experiment.fit_deep.require_finite_weights", fail)
        with pytest.raises(RuntimeError, match="the power is out"):
            run(tmp_path / "broken", STOPPING)
    resumed = run(tmp_path / "broken", STOPPING)
    assert resumed.record["epochs"] == whole.record["epochs"]
    # A diagnostic over memory that is laid out otherwise: on one kind of CPU its last bit differs, unlike the scores.
    for phase, spread in whole.record["spread"].items():
        assert resumed.record["spread"][phase] == pytest.approx(spread, rel=1e-12)
    assert (resumed.run_dir / "scores.csv").read_bytes() == (whole.run_dir / "scores.csv").read_bytes()


def test_accumulated_gradients_leave_the_losses_their_steps(tmp_path: Path) -> None:
    done = run(tmp_path, "+trainer.extra.accumulate_grad_batches=2")
    assert steps(done.run_dir, "fit") == list(range(24))


def test_extra_arguments_reach_the_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    monkeypatch.setattr(
        Callback, "on_train_start", lambda self, trainer, module: seen.append(trainer.gradient_clip_val)
    )
    run(tmp_path, CLIPPED)
    assert set(seen) == {1.0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("+trainer.extra.gradient_clip_val=much", "does not accept"),
        ("trainer.callbacks=[{_target_: pathlib.Path}]", "use a class derived from pytorch_lightning.Callback"),
    ],
)
def test_errors_that_only_lightning_finds_are_one_sentence(words: str, told: str, cli: CLI, tmp_path: Path) -> None:
    done = cli("train.py", words, "logger=none", "trainer.max_epochs=1")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert told in " ".join(output.split())
    assert "Traceback" not in output


def script(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A separate process, since a forked one has the import path of its parent."""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLE), "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / name), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_example_runs_alone_and_in_a_stacked_study(tmp_path: Path) -> None:
    words = ["--config-dir", str(EXAMPLE / "conf"), "trainer=flat_loss", "dataset=digits", "logger=none"]
    short = ["+trainer.extra.max_steps=40", "trainer.threads=1", "trainer.accelerator=cpu"]
    one = script("train.py", *words, *short, "output_dir=one", cwd=tmp_path)
    assert one.returncode == 0, one.stdout + one.stderr
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("one/**/metrics.json")]
    assert record["epochs"]["fit"] <= 10
    assert record["identity"]["trainer"]["callbacks"][0]["share"] == 0.05
    study = ["study=labeled_anomalies", "study.axes.gamma_l=[0.0,0.05]", "study.normal_classes=[0]"]
    study += ["study.anomaly_classes=[1]", "method=deep_sad", "hydra/launcher=stacked", "output_dir=study"]
    done = script("sweep.py", *words, *short, *study, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 experiments run alone: trainer.extra and trainer.callbacks" in " ".join(done.stdout.split())
    records = [json.loads(path.read_text()) for path in tmp_path.glob("study/**/metrics.json")]
    assert [one["trainer"]["replicas"] for one in records] == [1, 1]
    assert {one["auroc"] for one in records} >= {record["auroc"]}


def test_the_example_is_short() -> None:
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) == 2
    assert all(len(path.read_text().splitlines()) <= 40 for path in files)
