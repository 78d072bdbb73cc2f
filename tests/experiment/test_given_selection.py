"""``selection=holdout`` with given labels: folds for methods that see the labels, in identity, record and sweeps."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_tables import parts
from planned import METHODS, about, is_shallow, plan_of, settings_of, slow_but
from stacks import STACKED, output_of, records

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.experiment.build import SHALLOW_STREAM, build, load_data, stream
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.shallow import ssad
from deepsad_pl.shallow.selection import anomaly_folds
from deepsad_pl.shallow.ssad import SSAD, fit_ssad
from deepsad_pl.shallow.task import Task

CLI = Callable[..., subprocess.CompletedProcess[str]]
Experiment = Callable[..., Outcome]
TABLE = (
    *("dataset=table", "dataset.label=quality", "dataset.normal=[ok]"),
    *("dataset.drop=[truth]", "dataset.id=part", "logger=none"),
)
FEW = "method.gammas=[0.05,0.2,0.8]"
LOCAL = ("-m", "hydra/launcher=submitit_local", "trainer.threads=1", "hydra.launcher.experiments_per_job=4")


def write_table(folder: Path, scrap: int = 10) -> tuple[str, ...]:
    """Write a table; return the settings that name it."""
    parts(250, scrap=scrap).to_csv(folder / "parts.csv", index=False)
    anomaly = "[scrap]" if scrap else "[]"
    return (*TABLE, f"dataset.anomaly={anomaly}", f"dataset.path={folder / 'parts.csv'}", f"data_dir={folder}")


# --- The identity.


@pytest.mark.parametrize("method", METHODS)
def test_only_selection_in_folds_changes_the_identity(method: str) -> None:
    given, chooses = plan_of("scenario=given", f"method={method}"), method.startswith(("ocsvm", "ssad"))
    drawn = plan_of(f"method={method}", *(["method.selection=holdout"] if chooses else []))
    selects, sees = method.startswith("ssad"), about(method).labels != "hidden"
    assert given.identity["method"].get("holdout_folds") == (5 if selects else None)
    assert "holdout_folds" not in drawn.identity["method"]
    if is_shallow(method):
        # Hashes of an earlier commit, in which the two were the same.
        earlier = {key: value for key, value in given.identity["method"].items() if key != "holdout_folds"}
        assert earlier == {**drawn.identity["method"], **({} if sees else {"sees_labeled_anomalies": False})}
        same = identity_hash({**given.identity, "method": earlier}) == identity_hash(given.identity)
        assert same == (not selects)


@pytest.mark.parametrize("selection", ["none", "test_subset"])
def test_other_protocols_have_no_folds(selection: str) -> None:
    plan = plan_of("scenario=given", "method=ssad_raw", f"method.selection={selection}")
    assert "holdout_folds" not in plan.identity["method"]


# --- From the command line to the record.


def test_a_table_from_the_command_line_to_the_record(cli: CLI, tmp_path: Path) -> None:
    words = (*write_table(tmp_path), "method=ssad_raw", FEW)
    done = cli("train.py", *words, "output_dir=runs")
    assert done.returncode == 0, output_of(done)
    (record,) = records(tmp_path / "runs")
    selection = record["selection"]
    assert f"gamma {selection['gamma']:g} by holdout in 5 folds" in " ".join(done.stdout.split())
    assert (selection["folds"], selection["criterion"]) == (5, "mean_auroc_of_folds")
    assert [len(point["auroc_of_folds"]) for point in selection["grid"]] == [5, 5, 5]

    # The rows that calibrate the threshold are not used.
    plan = make_plan(settings_of(*words))
    data = build(plan, load_data(plan)).data
    assert record["counts"]["calibration"] == data.held_out_count > 0
    x = np.concatenate([x.numpy() for x, *_ in data.ordered_dataloader()])
    folds = anomaly_folds(data.semi_y, stream(0, SHALLOW_STREAM))
    assert sum(map(len, folds)) == len(x) == record["counts"]["train"]
    task = Task(x, data.semi_y, None, None, seed=stream(0, SHALLOW_STREAM), holdout_folds=5)
    fitted = fit_ssad(task, gammas=[0.05, 0.2, 0.8], kappa=1.0, eta_u=1.0, eta_l=1.0, selection="holdout")
    assert json.loads(json.dumps(fitted.selection)) == selection


@pytest.mark.parametrize("scrap", [0, 1])
def test_below_two_anomalies_the_log_says_which_parameters_are_used(
    scrap: int, experiment: Experiment, tmp_path: Path
) -> None:
    outcome = experiment(*write_table(tmp_path, scrap), "method=ssad_raw")
    log = (outcome.run_dir / "train.log").read_text()
    assert log.count("method.selection=holdout needs two labeled anomalies") == 1
    selection = outcome.record["selection"]
    assert (selection["protocol"], selection["requested"], selection["labeled_anomalies"]) == ("none", "holdout", scrap)
    default = experiment(*write_table(tmp_path, scrap), "method=ssad_raw", "method.selection=none")
    assert default.run_dir != outcome.run_dir
    assert (default.run_dir / "scores.csv").read_bytes() == (outcome.run_dir / "scores.csv").read_bytes()


def test_a_method_that_sees_no_labels_uses_selection_none(experiment: Experiment, tmp_path: Path) -> None:
    found = []
    for scrap in (0, 1, 10):
        record = experiment(*write_table(tmp_path, scrap), "method=ocsvm_raw", FEW, "threshold=none").record
        assert (record["selection"]["criterion"], record["counts"]["labeled_anomalies"]) == ("rejected_held_out", 0)
        found.append(record["counts"]["train"])
    assert found == [250, 249, 240]


def test_folds_that_cannot_be_solved_are_reported_before_training(experiment: Experiment, tmp_path: Path) -> None:
    words = (*write_table(tmp_path, 2), "method=ssad_hybrid", "method.kappa=4", "threshold=none")
    assert make_plan(settings_of(*words)).method.arguments["kappa"] == 4
    with pytest.raises(DeepSADError, match=r"without the rows of fold 1 of method.selection=holdout: SSAD has no"):
        experiment(*words)
    assert not (tmp_path / "runs").exists()


# --- Killed, stacked, packed.


def test_a_killed_run_resumes_to_the_same_bits(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = (*write_table(tmp_path), "method=ssad_raw", FEW, "trainer.threads=1")
    undisturbed = experiment(*words, f"output_dir={tmp_path / 'undisturbed'}")
    solve, calls = SSAD.solve, 0

    def counted(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return solve(self, *arguments)

    monkeypatch.setattr(ssad.SSAD, "solve", counted)
    with pytest.raises(KeyboardInterrupt):
        experiment(*words)
    resumed = experiment(*words)
    assert calls == 5 * 3 + 1 + 1
    assert resumed.record["selection"] == undisturbed.record["selection"]
    for name in ("scores.csv", "checkpoints/model.npz"):
        assert (resumed.run_dir / name).read_bytes() == (undisturbed.run_dir / name).read_bytes()


@pytest.mark.parametrize("launcher", slow_but((STACKED,), (STACKED, LOCAL)))
def test_stacks_and_packs_select_like_single_runs(
    launcher: tuple[str, ...], cli: CLI, experiment: Experiment, tmp_path: Path
) -> None:
    words = (*write_table(tmp_path), FEW)
    done = cli("train.py", *launcher, *words, "method=ssad_raw", "seed=0,1", "output_dir=swept")
    assert done.returncode == 0, output_of(done)
    found = {record["seed"]: record for record in records(tmp_path / "swept")}
    for seed in (0, 1):
        alone = experiment(*words, "method=ssad_raw", f"seed={seed}").record
        assert found[seed]["selection"] == json.loads(json.dumps(alone["selection"]))
        assert found[seed]["scores"] == alone["scores"]


@pytest.mark.parametrize("in_folds", [True, False])
def test_an_own_method_gets_folds_if_it_declares_them(
    in_folds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepsad_pl

    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /pretrain: none\nmethod:\n  name: mine\n  _target_: mine.fit\n"
        f"  features: raw\n  selection: holdout\n  about: {{shallow: true, holdout_folds: {str(in_folds).lower()}}}\n"
    )
    (tmp_path / "mine.py").write_text(
        "from deepsad_pl.shallow.models import DensityModel\nfrom deepsad_pl.shallow.task import Fitted, Task\n\n"
        "def fit(task: Task, *, selection: str) -> Fitted:\n"
        "    return Fitted(DensityModel(task.x, 1.0), {'protocol': selection, 'asked': task.holdout_folds})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    words = [word for word in write_table(tmp_path) if not word.startswith(("dataset=", "data_dir="))]
    result = deepsad_pl.run(
        "mine", "table", words, config_dir=tmp_path / "conf", data_dir=tmp_path, output_dir=tmp_path / "runs"
    )
    assert result.record["selection"] == {"protocol": "holdout", "asked": 5 if in_folds else None}
    assert result.record["identity"]["method"].get("holdout_folds") == (5 if in_folds else None)
