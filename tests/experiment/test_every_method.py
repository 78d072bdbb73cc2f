"""Every method leaves the same kinds of files, record, scores and errors, on an image and a table data set."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import EACH_METHOD, METHODS, is_shallow, plan_of
from sklearn.metrics import roc_auc_score
from tiny_data import write_odds

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import METRICS
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.fit_shallow import features
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.experiment.show_outcome import show_outcome
from deepsad_pl.methods.autoencoder import AutoencoderModule
from deepsad_pl.settings.about import own
from deepsad_pl.shallow.models import load_model

Experiment = Callable[..., Outcome]
SHORT = "trainer.max_epochs=2"
SHALLOW = [method for method in METHODS if is_shallow(method)]
KEYS = {
    *METRICS,
    "classes",
    "dataset",
    "method",
    "seed",
    "scenario",
    "hash",
    "identity",
    "versions",
    "results_version",
    "counts",
    "seconds",
    "spread",
    "epochs",
    "reused",
    "trainer",
    "command",
    "scores",
}


def scores_of(outcome: Outcome) -> tuple[list[int], np.ndarray, np.ndarray]:
    with (outcome.run_dir / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return (
        [int(row["index"]) for row in rows],
        np.array([int(row["y"]) for row in rows]),
        np.array([float(row["score"]) for row in rows]),
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_the_same_files_as_every_other_method(experiment: Experiment, method: str) -> None:
    outcome = experiment(f"method={method}", SHORT)
    index, y, score = scores_of(outcome)
    assert index == list(range(719))
    assert y.sum() == 648
    assert np.isfinite(score).all()
    assert outcome.record["auroc"] == pytest.approx(roc_auc_score(y, score), abs=1e-6)
    extra = {"selection"} if is_shallow(method) else set()
    assert set(outcome.record) == KEYS | extra
    kept = json.loads((outcome.run_dir / "metrics.json").read_text())
    assert kept.pop("sha256") and kept == outcome.record
    assert set(outcome.record["seconds"]) == {"pretrain", "fit", "score"}
    assert outcome.record["seconds"]["fit"] > 0
    assert (outcome.run_dir / "train.log").exists()
    assert outcome.run_dir.parent.name == outcome.record["method"] == method
    assert not (outcome.run_dir / "checkpoints" / "grid").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_on_a_table(experiment: Experiment, tmp_path: Path, method: str) -> None:
    write_odds(tmp_path, "cardio", rows=200, outliers=50)
    outcome = experiment("dataset=cardio", f"data_dir={tmp_path}", f"method={method}", SHORT, "scenario.gamma_l=0.1")
    assert len(scores_of(outcome)[0]) == 80
    if own("method")[method].get("features") == "raw":
        # Boosting may need a single column to separate the few labels.
        assert outcome.record["auroc"] > (0.85 if method == "xgbod" else 0.95)


@pytest.mark.parametrize("method", EACH_METHOD)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    experiment: Experiment, tmp_path: Path, method: str
) -> None:
    cold = ("pretrain.cache=false", SHORT, f"method={method}", "scenario.gamma_p=0.1")
    one = experiment(*cold)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = experiment(*cold, f"output_dir={tmp_path / 'again'}")
    other = experiment(*cold, "seed=1")
    bits = [(outcome.run_dir / "scores.csv").read_bytes() for outcome in (one, again, other)]
    assert bits[0] == bits[1] != bits[2]


@pytest.mark.parametrize("method", SHALLOW)
def test_a_saved_shallow_model_scores_again(experiment: Experiment, method: str) -> None:
    outcome = experiment(f"method={method}", SHORT)
    plan = plan_of(f"method={method}", SHORT)
    encoder = None
    if method.endswith("_hybrid"):
        path = outcome.run_dir / "checkpoints" / "pretrain.ckpt"
        encoder = AutoencoderModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    x = features(build(plan, load_data(plan)).data.test_dataloader(), encoder)
    model = load_model(outcome.run_dir / "checkpoints" / "model.npz")
    assert x.shape == (719, 32 if encoder else 64)
    assert np.array_equal(model.score(x), scores_of(outcome)[2])


@pytest.mark.parametrize("method", ["ocsvm_raw", "ssad_hybrid"])
def test_the_protocol_of_selection_is_on_record(experiment: Experiment, method: str) -> None:
    records = {}
    for selection in ("test_subset", "holdout", "none"):
        records[selection] = experiment(f"method={method}", f"method.selection={selection}", SHORT).record
        assert records[selection]["selection"]["protocol"] == selection
        assert records[selection]["counts"]["test"] == 719
    assert len({record["hash"] for record in records.values()}) == 3
    grid = records["test_subset"]["selection"]["grid"]
    assert len(grid) == (50 if method == "ocsvm_raw" else 10)
    assert records["test_subset"]["selection"]["subset_size"] == 72


@pytest.mark.parametrize("selection", ["holdout", "none"])
@pytest.mark.parametrize("method", ["ocsvm_raw", "ssad_raw"])
def test_honest_selection_never_looks_at_the_test_labels(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, method: str, selection: str
) -> None:
    from deepsad_pl.data.datamodule import AnomalyDataModule

    arguments = (f"method={method}", f"method.selection={selection}")
    honest = scores_of(experiment(*arguments))[2]
    monkeypatch.setattr(AnomalyDataModule, "test_y", property(lambda self: 1 - self._test_y.numpy()))
    assert np.array_equal(scores_of(experiment(*arguments, "force=true"))[2], honest)


def test_the_console_shows_what_was_selected(experiment: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = experiment("method=ocsvm_raw", "method.selection=holdout")
    gamma = outcome.record["selection"]["gamma"]
    for compact in (False, True):
        show_outcome(outcome, compact=compact)
        assert f"gamma {gamma:.4g}, nu 0.5 by holdout" in capsys.readouterr().out.replace("\n", " ")
    show_outcome(experiment("method=iforest_raw"))
    assert "selected" not in capsys.readouterr().out


def test_a_killed_grid_resumes(experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from deepsad_pl.shallow import ocsvm

    undisturbed = experiment("method=ocsvm_raw", f"output_dir={tmp_path / 'undisturbed'}")
    solve = ocsvm.OCSVM.solve
    calls = 0

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return solve(self, *arguments)

    monkeypatch.setattr(ocsvm.OCSVM, "solve", counted)
    with pytest.raises(KeyboardInterrupt):
        experiment("method=ocsvm_raw", "trainer.threads=1")
    resumed = experiment("method=ocsvm_raw", "trainer.threads=1")
    assert calls == 51
    assert (resumed.run_dir / "scores.csv").read_bytes() == (undisturbed.run_dir / "scores.csv").read_bytes()
    assert resumed.record["selection"] == undisturbed.record["selection"]


def test_ssad_without_labels_runs(experiment: Experiment) -> None:
    assert experiment("method=ssad_raw", "scenario.gamma_l=0").record["counts"]["labeled_anomalies"] == 0


def test_ssad_uses_labeled_normals(experiment: Experiment) -> None:
    outcome = experiment("method=ssad_raw", "scenario.gamma_n=0.1", "method.gammas=[0.125]")
    assert outcome.record["counts"]["labeled_normals"] > 0


def test_an_unsolvable_ssad_is_an_error(experiment: Experiment) -> None:
    with pytest.raises(DeepSADError, match="kappa"):
        experiment("method=ssad_raw", "method.kappa=100")
