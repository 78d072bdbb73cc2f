"""Methods and networks of users: repeatable, resumable, and scored by the detector as by the run."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsad_pl import load, run
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_scores
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.training.trainer import EpochCheckpoint

MODULE = '''
import numpy as np
import torch
from torch import Tensor, nn

from deepsad_pl.methods.deep_sad import DeepSADModule


class Dropped(DeepSADModule):
    """Draws from the global streams of torch and numpy."""

    def terms(self, x: Tensor, semi_y: Tensor) -> Tensor:
        kept = torch.dropout(self.encoder(x * float(np.random.uniform(0.9, 1.1))), 0.3, self.training)
        return (kept - self.center).square().sum(dim=1) * (1 + torch.randn(len(x)).abs())


class Shifted(DeepSADModule):
    """Keeps state in a plain attribute."""

    shift = 0.0

    def on_train_end(self) -> None:
        self.shift = 100.0

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + self.shift * x.flatten(1).mean(dim=1)


class Random(DeepSADModule):
    """Scores at random."""

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + torch.rand(len(x))


class Lost(DeepSADModule):
    """Cannot score without what it keeps in a plain attribute."""

    mean = None

    def on_train_end(self) -> None:
        self.mean = 1.0

    def score(self, x: Tensor) -> Tensor:
        return super().score(x) - self.mean


class Constant(DeepSADModule):
    """Scores all samples alike, up to rounding."""

    def score(self, x: Tensor) -> Tensor:
        return 5 + 1e-7 * super().score(x)


class Relative(DeepSADModule):
    """Scores relative to the batch."""

    def score(self, x: Tensor) -> Tensor:
        found = super().score(x)
        return found - 100 * found.mean()


class Unsaved(DeepSADModule):
    def save_hyperparameters(self, *args: object, **kwargs: object) -> None:
        pass
'''
QUICK = {"dataset": "digits", "logger": "none", "report": False, "pretrain": "none", "gamma_l": 0.05}
QUICK |= {"overrides": ["method.lr=[0.001]", "method.epochs=[4]", "trainer=cpu", "trainer.threads=1"]}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_code_lab.py").write_text(MODULE)
    methods = tmp_path / "conf" / "method"
    methods.mkdir(parents=True)
    for kind in ("Dropped", "Shifted", "Random", "Lost", "Constant", "Relative", "Unsaved"):
        name = kind.lower()
        head = "defaults: [deep_sad, _self_]\n"
        (methods / f"{name}.yaml").write_text(f"{head}name: {name}\n_target_: own_code_lab.{kind}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def trained(lab: Path, method: str, folder: str, **settings: Any) -> Any:
    return run(method, config_dir=lab / "conf", output_dir=lab / folder, **{**QUICK, **settings})


def scores_of(result: Any) -> np.ndarray:
    return read_scores(result.run_dir)[1]


def test_what_draws_from_global_streams_is_repeatable(lab: Path) -> None:
    torch.manual_seed(5)
    one = trained(lab, "dropped", "a")
    after = torch.rand(1)
    torch.manual_seed(6)
    other = trained(lab, "dropped", "b")
    assert scores_of(one).tolist() == scores_of(other).tolist()
    # The caller's own stream goes on as if nothing had been trained.
    torch.manual_seed(5)
    assert torch.rand(1) == after
    assert scores_of(trained(lab, "dropped", "a", seed=1)).tolist() != scores_of(one).tolist()


def test_a_resumed_training_draws_what_an_uninterrupted_one_does(
    lab: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    every = [*QUICK["overrides"], "trainer.checkpoint_seconds=0"]  # type: ignore[misc]
    whole = trained(lab, "dropped", "a", overrides=every)
    saved = EpochCheckpoint.on_train_epoch_end

    def killed(self: EpochCheckpoint, trainer: Any, module: Any) -> None:
        saved(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(BaseException):  # noqa: B017
        patched.setattr(EpochCheckpoint, "on_train_epoch_end", killed)
        trained(lab, "dropped", "b", overrides=every)
    with caplog.at_level(logging.INFO):
        resumed = trained(lab, "dropped", "b", overrides=every)
    assert "fit resumes from" in caplog.text
    assert scores_of(resumed).tolist() == scores_of(whole).tolist()


@pytest.mark.parametrize("method", ["shifted", "random", "relative"])
def test_a_detector_that_scores_unlike_its_run_is_told(
    lab: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trained(lab, method, "runs")
    (told,) = [record.getMessage() for record in caplog.records if "detector" in record.getMessage()]
    assert "the detector scores test samples unlike the run" in told and f"own_code_lab.{method.title()} has" in told


def test_a_detector_that_cannot_score_is_told_and_the_run_is_finished(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done = trained(lab, "lost", "runs")
    assert "the detector cannot score (TypeError: unsupported operand" in caplog.text
    assert done.auroc > 0.9 and (done.run_dir / "metrics.json").exists()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_nothing_is_told_of_a_method_whose_state_is_saved(
    lab: Path, caplog: pytest.LogCaptureFixture, precision: str
) -> None:
    words = [*QUICK["overrides"], f"trainer.precision={precision}"]  # type: ignore[misc]
    with caplog.at_level(logging.WARNING):
        done = trained(lab, "dropped", "runs", overrides=words)
    assert "detector" not in caplog.text
    assert load(done.run_dir).module is not None


def test_scores_that_are_all_alike_differ_by_rounding_only(
    lab: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = TrainedMethod.checked_score
    monkeypatch.setattr(TrainedMethod, "checked_score", lambda self, x: score(self, x) + 1e-5 * len(x) / 720)
    with caplog.at_level(logging.WARNING):
        trained(lab, "constant", "runs")
    assert "detector" not in caplog.text


def test_a_method_that_saves_no_arguments_is_refused_before_training(lab: Path) -> None:
    with pytest.raises(DeepSADError, match=r"own_code_lab.Unsaved, whose constructor does not call self.save_hyper"):
        trained(lab, "unsaved", "runs")
