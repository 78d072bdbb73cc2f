"""``warm_start=<run>``: training continues from a finished run: alone, in a stack, resumed, and after a move."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from own_tables import parts
from planned import plan_of, problems_of
from processes import ROOT
from stacks import alone, assigned, outcomes, together

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.stacked.grouping import stack_key

SHORT = ("method.epochs=[2]", "method.lr=[1e-3]", "logger=none", "trainer.threads=1")
COLD = ("pretrain.epochs=[2]", "pretrain.lr=[1e-3]")
TABLE = ("dataset=table", "dataset.label=quality", "dataset.normal=[ok]", "dataset.anomaly=[scrap]", "dataset.id=part")


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    parts().to_csv(folder / "parts.csv", index=False)
    return folder


def words(where: Path, *more: str) -> tuple[str, ...]:
    own = (f"dataset.path={where / 'parts.csv'}", "dataset.drop=[truth]", f"data_dir={where / 'data'}")
    return (*TABLE, *own, *SHORT, *more)


@pytest.fixture(scope="module")
def first(where: Path) -> Path:
    return alone(where / "runs", *words(where, *COLD)).run_dir


def state(run_dir: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return found


def asked(where: Path) -> Path:
    path, rows = where / "asked.csv", parts().query("quality == ''").head(6)
    rows[["part", "truth"]].rename(columns={"part": "id", "truth": "quality"}).to_csv(path, index=False)
    return path


def test_training_starts_from_the_earlier_weights_and_keeps_the_center(
    where: Path, first: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plan = plan_of(*words(where, f"warm_start={first}", f"dataset.labels={asked(where)}", f"output_dir={where}/a"))
    parts_of = build(plan, load_data(plan))
    assert [phase.name for phase in parts_of.phases] == ["fit"]
    before = state(first)
    assert all(torch.equal(tensor, before[key]) for key, tensor in parts_of.phases[0].module.state_dict().items())

    outcome = alone(where / "a", *words(where, f"warm_start={first}", f"dataset.labels={asked(where)}"))
    after = state(outcome.run_dir)
    assert torch.equal(after["center"], before["center"])
    moved = [key for key in before if key.endswith("weight") and not torch.equal(before[key], after[key])]
    assert moved
    assert not (outcome.run_dir / "checkpoints" / "pretrain.ckpt").exists()
    assert outcome.record["seconds"]["pretrain"] == 0
    known = json.loads((first / "metrics.json").read_text())["counts"]
    assert outcome.record["counts"]["labeled_normals"] > known["labeled_normals"]
    log = (outcome.run_dir / "train.log").read_text()
    assert f"the training starts from the weights of {first}, without a pre-training" in log
    assert "may have been trained on" not in log


def test_the_identity_has_the_earlier_hash_and_a_moved_run_is_the_same(where: Path, first: Path) -> None:
    cold = plan_of(*words(where, *COLD))
    assert "warm_start" not in cold.identity and not cold.starts_warm
    moved = where / "moved"
    shutil.copytree(first, moved, dirs_exist_ok=True)
    plans = [plan_of(*words(where, f"warm_start={run}", *more)) for run, more in ((first, ()), (moved, ()))]
    assert plans[0].identity["warm_start"] == identity_hash(cold.identity)
    assert plans[0].identity["pretrain"] is None
    assert plans[0].identity == plans[1].identity
    # What the pre-training would have been does not matter.
    assert plan_of(*words(where, f"warm_start={first}", "pretrain=none")).identity == plans[0].identity


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("method=ocsvm_raw",), "method=ocsvm_raw is a shallow method, so it has no weights to start from"),
        (("method=ssad_hybrid",), "method=ssad_hybrid is a shallow method, so it has no weights to start from"),
        (("method=autoencoder",), "method=autoencoder cannot start from the weights of"),
        (("method=classifier",), "which is a run of method=deep_sad; choose that method, or a run of classifier"),
    ],
)
def test_another_family_of_methods_is_refused_before_work(
    more: tuple[str, ...], said: str, where: Path, first: Path
) -> None:
    short = [word for word in words(where, *more) if not word.startswith("method.")]
    (found,) = problems_of(*short, f"warm_start={first}")
    assert found.startswith("warm_start: ") and said in found


def test_a_folder_without_a_run_or_weights_is_refused_together_with_other_problems(where: Path, tmp_path: Path) -> None:
    found = problems_of(*words(where, f"warm_start={tmp_path}", "trainer.max_epochs=0"))
    assert any("which is not a finished run: it has no detector/detector.json" in one for one in found)
    assert any("trainer.max_epochs is 0" in one for one in found)
    shallow = ("method=iforest_raw", "logger=none")
    plain = [word for word in words(where) if not word.startswith(("method.", "logger"))]
    run = alone(where / "runs", *plain, *shallow).run_dir
    (found_too,) = problems_of(*words(where, f"warm_start={run}"))
    assert "method=iforest_raw" in found_too and "has no weights to start from" in found_too


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("dataset.network.units=[8,4]",), "units is [32, 16, 4] there and [8, 4] here"),
        (("dataset.drop=[truth,sensor_0]",), "only one has sensor_0"),
        (("dataset.network.leakiness=0.2",), "leakiness is 0.1 there and 0.2 here"),
    ],
)
def test_another_network_or_width_is_refused_before_the_run_has_a_folder(
    more: tuple[str, ...], said: str, where: Path, first: Path
) -> None:
    with pytest.raises(DeepSADError, match="has a different network or different columns") as caught:
        alone(where / "refused", *words(where, f"warm_start={first}", *more))
    assert said in str(caught.value) and len(caught.value.problems) == 1
    assert not (where / "refused").exists()


def test_a_run_from_before_slopes_and_initial_weights_had_settings_can_be_continued(where: Path, first: Path) -> None:
    older = where / "older"
    shutil.copytree(first, older)
    path = older / "detector" / "module.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for key in ("leakiness", "initial_weights"):
        del checkpoint["hyper_parameters"]["network"][key]
    torch.save(checkpoint, path)
    outcome = alone(where / "runs", *words(where, f"warm_start={older}", "dataset.network.initial_weights=torch"))
    assert torch.equal(state(outcome.run_dir)["center"], state(first)["center"])


def test_the_same_columns_in_another_order_are_refused(where: Path, first: Path) -> None:
    frame = parts()
    swapped = where / "swapped.csv"
    frame[["part", "sensor_1", "sensor_0", *frame.columns[3:]]].to_csv(swapped, index=False)
    with pytest.raises(DeepSADError, match="columns in another order"):
        alone(where / "refused", *words(where, f"warm_start={first}", f"dataset.path={swapped}"))


def test_deep_sad_continues_from_deep_svdd(where: Path) -> None:
    run = alone(where / "runs", *words(where, *COLD, "method=deep_svdd")).run_dir
    outcome = alone(where / "runs", *words(where, f"warm_start={run}"))
    assert torch.equal(state(outcome.run_dir)["center"], state(run)["center"])


def test_a_unit_of_distances_is_kept_or_measured_or_left_out(where: Path) -> None:
    run = alone(where / "runs", *words(where, *COLD, "method=deep_svdd")).run_dir
    measured = alone(where / "runs", *words(where, f"warm_start={run}", "method.eta_scale=initial")).run_dir
    unit = state(measured)["eta_unit"]
    assert 0 < unit != 1
    kept = alone(where / "runs", *words(where, f"warm_start={measured}", "method.eta_scale=initial")).run_dir
    assert torch.equal(state(kept)["eta_unit"], unit)
    for more in (("method=deep_svdd",), ("method.eta_scale=fixed",)):
        assert "eta_unit" not in state(alone(where / "runs", *words(where, f"warm_start={measured}", *more)).run_dir)


@pytest.mark.parametrize("method", ["autoencoder", "classifier", "ss_dgm_m1m2"])
def test_other_deep_methods_continue_from_themselves(method: str, where: Path) -> None:
    cold = alone(where / "runs", *words(where, f"method={method}"), "trainer.max_epochs=1").run_dir
    warm = alone(where / "runs", *words(where, f"method={method}", f"warm_start={cold}"), "trainer.max_epochs=1")
    assert warm.record["identity"]["warm_start"] == cold.name.rpartition("-")[2]
    assert warm.record["reused"] == {}
    assert {*state(warm.run_dir)} == {*state(cold)}


def test_a_stack_of_warm_starts_gives_the_results_of_single_ones(where: Path, first: Path) -> None:
    cells = [words(where, f"warm_start={first}", f"method.eta={eta}") for eta in (1, 2)]
    cold = words(where, *COLD, "method.eta=3")
    keys = [stack_key(assigned(where / "stack", *cell).plan) for cell in (*cells, cold)]
    assert keys[0] == keys[1] != keys[2]
    stacked = outcomes(together(where / "stack", *cells, cold))
    assert [one.record["trainer"]["replicas"] for one in stacked] == [2, 2, 1]
    for cell, one in zip((*cells, cold), stacked, strict=True):
        by_itself = state(alone(where / "alone", *cell).run_dir)
        for key, tensor in state(one.run_dir).items():
            assert torch.allclose(tensor.float(), by_itself[key].float(), atol=1e-4), key
        if "warm_start" in one.record["identity"]:
            assert torch.equal(state(one.run_dir)["center"], state(first)["center"])


def test_an_interrupted_warm_start_resumes(
    where: Path, first: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    from deepsad_pl.training.trainer import EpochCheckpoint

    cell = words(where, f"warm_start={first}", "trainer.checkpoint_seconds=0")
    whole = alone(where / "whole", *cell)
    end = EpochCheckpoint.on_train_epoch_end

    def stopped(self: Any, trainer: Any, module: Any) -> None:
        end(self, trainer, module)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(EpochCheckpoint, "on_train_epoch_end", stopped)
        alone(where / "resumed", *cell)
    resumed = alone(where / "resumed", *cell)
    assert "fit resumes from" in (resumed.run_dir / "train.log").read_text()
    assert all(torch.equal(tensor, state(whole.run_dir)[key]) for key, tensor in state(resumed.run_dir).items())


def test_a_run_scores_its_training_rows_after_the_earlier_run_is_deleted(where: Path, first: Path) -> None:
    gone = where / "gone"
    shutil.copytree(first, gone)
    settings: dict[str, Any] = {"warm_start": gone, "output_dir": where / "api"}
    result = deepsad_pl.run(None, None, [*words(where)], **settings)
    shutil.rmtree(gone)
    from deepsad_pl.commands.loading import planned

    plan = planned(result.run_dir, None)
    assert plan.starts_warm and plan.earlier is None
    assert [phase.name for phase in build(plan, load_data(plan)).phases] == ["fit"]
    assert len(deepsad_pl.load(result.run_dir).score(parts())) == 400


@pytest.mark.parametrize(("more", "warned"), [((), False), (("seed=1",), True), (("threshold.share=0.3",), True)])
def test_a_threshold_calibrated_on_rows_seen_in_training_causes_a_warning(
    more: tuple[str, ...], warned: bool, where: Path, first: Path
) -> None:
    outcome = alone(where / "runs", *words(where, f"warm_start={first}", *more))
    assert ("may have been trained on" in (outcome.run_dir / "train.log").read_text()) is warned


def test_a_plan_with_labels_and_a_warm_start_needs_no_torch(where: Path, first: Path) -> None:
    own = words(where, f"warm_start={first}", f"dataset.labels={asked(where)}")
    code = f"import sys; from planned import plan_of; plan_of(*{own!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("False"), done.stdout + done.stderr
