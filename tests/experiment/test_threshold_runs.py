"""Runs with a threshold: what is kept out of training, what is stored, and what changes with another alpha."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import EACH_METHOD, plan_of
from processes import background, wait_for
from stacks import alone, assigned, outcomes, together

from deepsad_pl.common.calibration_scores import CALIBRATION, read_calibration
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import read_record
from deepsad_pl.common.thresholds import conformal_threshold, p_values
from deepsad_pl.data.sources import Source, split_rows, table_source
from deepsad_pl.data.toy import toy_table
from deepsad_pl.experiment import run
from deepsad_pl.experiment.build import Parts, build, load_data
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.experiment.show_outcome import show_outcome

TOY = ("dataset=toy", "logger=none", "trainer.threads=1", "trainer.max_epochs=2", "scenario.gamma_n=0.1")
CONFORMAL = (*TOY, "threshold=conformal")


def scored(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    columns = np.genfromtxt(outcome.run_dir / "scores.csv", delimiter=",", names=True)
    return columns["y"], columns["score"].astype(np.float32)


def parts_of(*words: str, source: Source | None = None) -> Parts:
    plan = plan_of(*words)
    return build(plan, source or load_data(plan))


def batches_of(parts: Parts) -> list[torch.Tensor]:
    return [x for phase in parts.phases for x, *_ in phase.data.train_dataloader()]


def changed_where_held_out(parts: Parts, held_out: np.ndarray) -> Source:
    """The toy table, with extreme values in the rows that are kept out of training."""
    x, labels = toy_table(0)
    train, _ = split_rows(labels, 0)
    wild = x.copy()
    wild[train[parts.data.training_set.index[held_out]]] = 1e6
    return table_source(wild, labels, 0, "zscore")


@pytest.mark.parametrize("kind", ["conformal", "labeled"])
@pytest.mark.parametrize("dataset", ["toy", "digits"])
def test_held_out_samples_are_in_no_training_batch(dataset: str, kind: str) -> None:
    words = (*TOY, f"dataset={dataset}", f"threshold={kind}", "threshold.share=0.3")[1:]
    parts = parts_of(*words)
    data = parts.data
    held_out = {x.numpy().tobytes() for x, *_ in data.calibration_dataloader() for x in x}
    trained = {x.numpy().tobytes() for x in batches_of(parts) for x in x}
    assert len(parts.phases) == 2 and held_out and not held_out & trained
    everything = parts_of(*words[:-2], "threshold=none").data
    assert data.counts.total + data.held_out_count == everything.counts.total
    assert len(data.semi_y) == data.counts.total
    kinds = data.calibration_semi_y
    for label, count in ((-1, "labeled_anomalies"), (1, "labeled_normals")):
        assert getattr(data.counts, count) + (kinds == label).sum() == getattr(everything.counts, count)
    assert set(kinds.tolist()) == ({0, 1} if kind == "conformal" else {-1, 1})


def test_the_truth_of_calibration_samples_is_never_read() -> None:
    data = parts_of(*CONFORMAL).data
    assert {*torch.cat([y for _, _, y, _ in data.calibration_dataloader()]).tolist()} == {-1}


def test_held_out_values_change_neither_scaling_nor_batches_nor_the_key_of_pretraining() -> None:
    before = parts_of(*CONFORMAL)
    held_out = before.data._held_out
    after = parts_of(*CONFORMAL, source=changed_where_held_out(before, held_out))
    for one, other in zip(batches_of(before), batches_of(after), strict=True):
        assert torch.equal(one, other)
    assert np.array_equal(before.data.source.x_test, after.data.source.x_test)
    assert before.phases[0].determined_by == after.phases[0].determined_by
    # This test can fail: with all rows in the scaling, the same change affects the other rows.
    unlike = parts_of(*TOY, source=changed_where_held_out(before, held_out))
    assert not np.array_equal(before.data.source.x_test, unlike.data.source.x_test)


def test_held_out_values_change_no_bit_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(*CONFORMAL)
    first = alone(tmp_path / "first", *CONFORMAL)
    source = changed_where_held_out(parts, parts.data._held_out)
    monkeypatch.setattr(run, "load_data", lambda _: source)
    second = alone(tmp_path / "second", *CONFORMAL)
    for name in ("pretrain.ckpt", "last.ckpt"):
        states = [
            torch.load(one.run_dir / "checkpoints" / name, weights_only=True)["state_dict"] for one in (first, second)
        ]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert (first.run_dir / "scores.csv").read_bytes() == (second.run_dir / "scores.csv").read_bytes()
    assert (read_calibration(first.run_dir)[0] < read_calibration(second.run_dir)[0]).all()


def test_refitting_on_all_rows_changes_no_bit() -> None:
    source = load_data(plan_of(*TOY))
    assert source.refit is not None
    again = source.refit(np.arange(len(source.x_train)))
    assert np.array_equal(again.x_train, source.x_train) and np.array_equal(again.x_test, source.x_test)


@pytest.mark.parametrize("kind", ["conformal", "quantile", "labeled"])
def test_each_kind_of_threshold_runs(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = alone(tmp_path, *TOY, f"threshold={kind}", *(["threshold.share=0.3"] if kind != "quantile" else []))
    found, counts = outcome.record["threshold"], outcome.record["counts"]
    score, semi_y = read_calibration(outcome.run_dir)
    assert found["kind"] == kind and found["rows"] == len(score) == len(semi_y)
    assert np.isfinite(score).all()
    y, test = scored(outcome)
    alarm = test > found["value"]
    assert found["test"] == {"false_alarm_rate": alarm[y == 0].mean(), "recall": alarm[y == 1].mean()}
    if kind == "conformal":
        assert (alarm == (p_values(score, test) <= 0.05)).all()
    if kind == "quantile":
        assert (score > found["value"]).mean() <= 0.05
        assert counts["calibration"] == 0 and len(score) == counts["unlabeled"] + counts["labeled_normals"]
    else:
        assert counts["calibration"] == len(score) and found["share"] == 0.3
    assert read_record(outcome.run_dir, outcome.record["hash"]) == outcome.record
    show_outcome(outcome)
    shown = capsys.readouterr().out
    assert f"{found['value']:.6g} ({kind}, " in shown and f"{found['rows']} samples)" in shown
    assert "test false-alarm rate" in shown


def test_a_run_without_a_threshold_leaves_no_trace_of_one(tmp_path: Path) -> None:
    outcome = alone(tmp_path, *TOY)
    assert "threshold" not in outcome.record and "calibration" not in outcome.record["counts"]
    assert not (outcome.run_dir / CALIBRATION).exists()


@pytest.mark.parametrize("method", EACH_METHOD)
def test_lost_calibration_scores_are_recomputed_from_the_trained_model(method: str, tmp_path: Path) -> None:
    """For every method, so that each can be calibrated."""
    words = (*CONFORMAL, f"method={method}")
    outcome = alone(tmp_path, *words)
    score, semi_y = read_calibration(outcome.run_dir)
    (outcome.run_dir / CALIBRATION).write_bytes(b"no archive")
    again = alone(tmp_path, *words)
    assert again.was_finished
    found = read_calibration(outcome.run_dir)
    assert np.allclose(found[0], score, rtol=1e-5) and np.array_equal(found[1], semi_y)
    assert again.record["threshold"]["rows"] == len(score)


def test_another_alpha_gives_the_same_run_without_training(tmp_path: Path) -> None:
    first = alone(tmp_path, *CONFORMAL)
    score, _ = read_calibration(first.run_dir)
    second = alone(tmp_path, *CONFORMAL, "threshold.alpha=0.2")
    assert second.was_finished and second.run_dir == first.run_dir
    found = second.record["threshold"]
    assert found["alpha"] == 0.2 and found["value"] == np.sort(score)[-int(0.2 * (len(score) + 1) + 1e-9)]
    y, test = scored(second)
    assert found["test"]["false_alarm_rate"] == (test > found["value"])[y == 0].mean()
    written = json.loads((first.run_dir / "metrics.json").read_text())
    assert written.pop("sha256") and written == second.record
    assert alone(tmp_path, *CONFORMAL).record == first.record


@pytest.mark.parametrize("finished", [True, False])
def test_too_small_an_alpha_is_refused_before_any_training(finished: bool, tmp_path: Path) -> None:
    if finished:
        alone(tmp_path, *CONFORMAL)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(DeepSADError, match=r"threshold.alpha is 0.0001, but with \d+ calibration samples the smallest"):
        alone(tmp_path, *CONFORMAL, "threshold.alpha=0.0001")
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_best_f1_threshold_can_become_a_false_positive_rate(tmp_path: Path) -> None:
    words = (*TOY, "threshold=labeled", "threshold.share=0.5")
    assert alone(tmp_path, *words).record["threshold"]["fpr"] is None
    outcome = alone(tmp_path, *words, "threshold.fpr=0.1")
    score, semi_y = read_calibration(outcome.run_dir)
    assert outcome.was_finished
    assert (score[semi_y == 1] > outcome.record["threshold"]["value"]).mean() <= 0.1


def test_a_method_that_ignores_labels_is_calibrated_with_them(tmp_path: Path) -> None:
    outcome = alone(tmp_path, *TOY, "method=iforest_raw", "threshold=labeled")
    assert outcome.record["counts"]["labeled_anomalies"] == 0
    assert set(read_calibration(outcome.run_dir)[1].tolist()) == {-1, 1}


def test_experiments_in_a_stack_are_calibrated_as_alone(tmp_path: Path) -> None:
    cells = [(*CONFORMAL, f"seed={seed}", "threshold.share=0.3") for seed in (0, 1)]
    cells += [(*TOY, "threshold=quantile", "seed=0"), (*TOY, "seed=1")]
    stacked = outcomes(together(tmp_path / "stack", *cells))
    assert stacked[0].record["trainer"]["replicas"] == 4
    for cell, outcome in zip(cells, stacked, strict=True):
        single = alone(tmp_path / "alone", *cell)
        assert outcome.run_dir.name == single.run_dir.name
        assert outcome.record["counts"] == single.record["counts"]
        if "threshold" not in single.record:
            continue
        ours, theirs = (read_calibration(one.run_dir) for one in (outcome, single))
        assert np.allclose(ours[0], theirs[0], rtol=1e-3) and np.array_equal(ours[1], theirs[1])
        assert outcome.record["threshold"]["value"] == pytest.approx(single.record["threshold"]["value"], rel=1e-3)


def test_the_sources_of_a_stack_are_shared_until_rows_are_held_out(tmp_path: Path) -> None:
    plan: Any = assigned(tmp_path, *CONFORMAL).plan
    source = load_data(plan)
    before = source.x_train.copy()
    parts = build(plan, source)
    assert parts.data.source is not source
    assert parts.phases[0].data.source is parts.data.source
    assert np.array_equal(source.x_train, before)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    words = [*CONFORMAL, "method.epochs=[100]", "method.lr=[1e-3]", "trainer.checkpoint_seconds=0"]
    words.remove("trainer.max_epochs=2")
    words += ["pretrain.epochs=[5]", "pretrain.lr=[1e-3]"]
    with background("train.py", *words, f"output_dir={tmp_path / 'killed'}", cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.rglob("last.ckpt")), process)
        process.kill()
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    assert not list(tmp_path.rglob("metrics.json"))
    resumed, undisturbed = alone(tmp_path / "killed", *words), alone(tmp_path / "undisturbed", *words)
    assert "fit resumes from" in (resumed.run_dir / "train.log").read_text()
    one, other = (read_calibration(outcome.run_dir) for outcome in (resumed, undisturbed))
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    assert resumed.record["threshold"] == undisturbed.record["threshold"]
    assert (resumed.run_dir / "scores.csv").read_bytes() == (undisturbed.run_dir / "scores.csv").read_bytes()


def gaussian(seed: int, pollution: int) -> Source:
    """Unlabeled normal rows with some pollution, few known anomalies, and fresh normal rows to test."""
    rng = np.random.default_rng([seed, 7])
    x = rng.normal(size=(520, 4)).astype(np.float32)
    x[: 20 + pollution] += 3
    semi_y = np.zeros(520, np.int64)
    semi_y[:20] = -1
    fresh = rng.normal(size=(1000, 4)).astype(np.float32)
    return Source(x, np.zeros(520, np.int64), fresh, np.zeros(1000, np.int64), None, semi_y)


@pytest.mark.slow
def test_the_false_alarm_rate_of_runs_is_at_most_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 50 seeds of data, split and method; with pollution, there are fewer false alarms than alpha."""
    rates: dict[tuple[int, float], list[float]] = {}
    alphas, samples = (0.01, 0.05, 0.1), 100
    for pollution in (0, 25):
        for seed in range(50):
            source = gaussian(seed, pollution)
            monkeypatch.setattr(run, "load_data", lambda _, source=source: source)
            words = ("dataset=toy", "logger=none", "scenario=given", "method=iforest_raw", f"seed={seed}")
            outcome = alone(tmp_path / str(pollution), *words)
            score, _ = read_calibration(outcome.run_dir)
            assert len(score) == samples
            test = np.genfromtxt(outcome.run_dir / "scores.csv", delimiter=",", names=True)["score"]
            for alpha in alphas:
                rates.setdefault((pollution, alpha), []).append((test > conformal_threshold(score, alpha)).mean())
    for alpha in alphas:
        spread = np.sqrt(alpha * (1 - alpha) / 50 * (1 / samples + 1 / 1000))
        assert np.mean(rates[0, alpha]) <= alpha + 3 * spread
        assert np.mean(rates[25, alpha]) < 0.8 * np.mean(rates[0, alpha])
