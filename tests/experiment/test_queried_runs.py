"""Experiments that ask for labels in rounds, against a plain loop, alone and in stacks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import plan_of, problems_of
from sklearn.metrics import roc_auc_score
from stacks import alone, assigned, outcomes, records, together

import deepsad_pl
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.ranges import Range
from deepsad_pl.data.queried_labels import QueriedLabels, first_rows, pool_of, query_seed
from deepsad_pl.detector.query import STRATEGIES
from deepsad_pl.experiment.asked import LABELED_ROWS
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.finished import locked_run
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.shallow.ssad import fit_ssad
from deepsad_pl.shallow.task import Task

LOOP = ("scenario=queried", "logger=none", "trainer.threads=1", "scenario.query_count=4", "scenario.start=6")
SSAD = (*LOOP, "method=ssad_raw", "method.selection=none")
QUICK = (*LOOP, "trainer.max_epochs=2")


def asked(outcome: Outcome) -> list[int]:
    found: list[int] = outcome.record[LABELED_ROWS]
    return found


def chosen_plainly(by: str, score: np.ndarray, semi_y: np.ndarray, x: np.ndarray, seed: int, count: int) -> list[int]:
    """The positions to ask about, chosen one by one as documented."""
    left = [i for i in range(len(score)) if semi_y[i] == 0]
    if by == "random":
        return np.random.default_rng(seed).permutation(left)[:count].tolist()
    if by == "anomalous":
        return sorted(left, key=lambda i: -score[i])[:count]
    if by == "uncertain":
        normal, anomaly = score[semi_y == 1], score[semi_y == -1]
        if not len(anomaly):
            threshold = np.quantile(score, 0.95)
        else:
            threshold = (np.median(normal) + np.median(anomaly)) / 2 if len(normal) else np.median(anomaly)
        return sorted(left, key=lambda i: abs(score[i] - threshold))[:count]
    candidates = sorted(left, key=lambda i: -score[i])[: 10 * count]
    taken = candidates[:1]
    while len(taken) < count:
        rest = [i for i in candidates if i not in taken]
        taken.append(max(rest, key=lambda i: min(float(((x[i] - x[j]) ** 2).sum()) for j in taken)))
    return taken


@pytest.mark.parametrize("by", STRATEGIES)
def test_the_loop_agrees_with_a_plain_loop(by: str, tmp_path: Path) -> None:
    words = (*SSAD, f"scenario.query_by={by}", "seed=3")
    last = alone(tmp_path, *words, "scenario.rounds=2")

    plan = plan_of(*words)
    scenario, source = plan.scenario, load_data(plan)
    assert isinstance(scenario, QueriedLabels)
    pool = pool_of(source.labels_train, scenario)
    x = source.x_train[pool.index].reshape(len(pool.index), -1).astype(np.float32) / source.scale
    test = source.x_test.reshape(len(source.x_test), -1).astype(np.float32) / source.scale
    labeled = [pool.index.tolist().index(row) for row in first_rows(pool, scenario)]
    for rounds in (0, 1, 2):
        semi_y = np.zeros(len(x), np.int64)
        semi_y[labeled] = np.where(source.labels_train[pool.index[labeled]] == 0, 1, -1)
        task = Task(x, semi_y, None, None, seed=0)
        machine = {"gammas": [1.0], "kappa": 1.0, "eta_u": 1.0, "eta_l": 1.0, "selection": "none"}
        model = fit_ssad(task, **machine).model
        of_round = alone(tmp_path, *words, f"scenario.rounds={rounds}")
        assert of_round.was_finished
        assert asked(of_round) == sorted(pool.index[labeled].tolist())
        auroc = roc_auc_score(source.labels_test != 0, model.score(test))
        assert of_round.record["auroc"] == pytest.approx(auroc, abs=1e-6)
        seed = query_seed(plan_of(*words, f"scenario.rounds={rounds + 1}").scenario)  # type: ignore[arg-type]
        labeled += chosen_plainly(by, model.score(x), semi_y, x, seed, 4)
    assert len(asked(last)) == 6 + 2 * 4


@pytest.mark.parametrize("by", STRATEGIES)
def test_a_deep_method_chooses_rows_by_its_detector(by: str, tmp_path: Path) -> None:
    words = (*QUICK, f"scenario.query_by={by}", "method=deep_sad", "dataset=toy")
    after = alone(tmp_path, *words, "scenario.rounds=1")
    before = alone(tmp_path, *words, "scenario.rounds=0")
    plan = plan_of(*words, "scenario.rounds=1")
    source, detector = load_data(plan), deepsad_pl.load(before.run_dir)
    assert isinstance(plan.scenario, QueriedLabels)
    pool = pool_of(source.labels_train, plan.scenario)
    x = source.x_train[pool.index]
    raw = source.preparation
    assert raw is not None
    semi_y = np.zeros(len(pool.index), np.int64)
    known = np.isin(pool.index, asked(before))
    semi_y[known] = np.where(pool.y[known] == 0, 1, -1)
    with torch.no_grad():
        assert detector.module is not None
        phi = detector.module.represent(torch.from_numpy(x)).double().numpy()
        score = detector.module.score(torch.from_numpy(x)).double().numpy()
    new = pool.index[chosen_plainly(by, score, semi_y, phi, query_seed(plan.scenario), 4)]
    assert sorted([*asked(before), *new.tolist()]) == asked(after)


def test_rounds_are_nested_and_strategies_share_the_first(tmp_path: Path) -> None:
    ends = {}
    for by in STRATEGIES:
        before: set[int] = set()
        for rounds in (0, 1, 2):
            outcome = alone(tmp_path, *SSAD, f"scenario.query_by={by}", f"scenario.rounds={rounds}")
            assert before < {*asked(outcome)} and len(asked(outcome)) == 6 + 4 * rounds
            counts, before = outcome.record["counts"], {*asked(outcome)}
            assert counts["labeled_normals"] + counts["labeled_anomalies"] == len(before)
            assert counts["train"] == 117
        ends[by] = before
    assert len(records(tmp_path)) == 1 + 2 * len(STRATEGIES)
    assert len({*map(frozenset, ends.values())}) > 1


def test_a_stack_asks_about_the_same_rows_as_single_experiments(tmp_path: Path) -> None:
    cells = [(*QUICK, "scenario.rounds=2", f"scenario.query_by={by}") for by in ("anomalous", "random")]
    stacked = outcomes(together(tmp_path / "stacked", *cells))
    assert not any(outcome.was_finished for outcome in stacked)
    for cell, outcome in zip(cells, stacked, strict=True):
        single = alone(tmp_path / "alone", *cell)
        assert asked(single) == asked(outcome)
        assert single.record["auroc"] == pytest.approx(outcome.record["auroc"], abs=1e-3)
    # One run for round 0, and one for each strategy in rounds 1 and 2.
    assert len(records(tmp_path / "stacked")) == len(records(tmp_path / "alone")) == 5
    again = outcomes(together(tmp_path / "stacked", *cells))
    assert all(outcome.was_finished for outcome in again)


def test_an_earlier_round_is_run_by_its_own_command(tmp_path: Path) -> None:
    outcome = alone(tmp_path, *SSAD, "scenario.rounds=1")
    (first,) = [one for one in records(tmp_path) if one["hash"] != outcome.record["hash"]]
    assert first["command"] == "a test scenario.rounds=0"
    before = plan_of(*SSAD, f"output_dir={tmp_path}", "scenario.rounds=1").previous_round
    assert before is not None and before.run_dir == plan_of(*SSAD, f"output_dir={tmp_path}").run_dir
    assert deepsad_pl.load(before.run_dir).score(np.zeros((1, 1, 8, 8), np.uint8)).shape == (1,)


def test_a_failed_round_is_reported_by_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rate at which the loss overflows at once is refused otherwise.
    monkeypatch.setattr(Range, "__contains__", lambda *_: True)
    words = (*QUICK, "method.lr=[1e38]", "method.epochs=[2]", "pretrain=none", "scenario.rounds=1")
    (result,) = together(tmp_path, words)
    assert isinstance(result, DeepSADError)
    assert str(result).startswith("the previous round, in ") and "failed: " in str(result)


def test_no_round_begins_before_the_previous_one_is_finished(tmp_path: Path) -> None:
    plan = plan_of(*QUICK, f"output_dir={tmp_path}", "scenario.rounds=3")
    with pytest.raises(DeepSADError, match=r"not finished in .*; run it with scenario.rounds=2"):
        build(plan, load_data(plan))


def test_no_lock_is_held_while_an_earlier_round_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[set[str]] = []
    open_now: set[str] = set()

    class Watched:
        def __init__(self, plan: Any, **wait: Any) -> None:
            self._lock, self._name = locked_run(plan, **wait), plan.run_dir.name

        def __enter__(self) -> None:
            self._lock.__enter__()
            held.append({*open_now})
            open_now.add(self._name)

        def __exit__(self, *error: Any) -> None:
            open_now.discard(self._name)
            self._lock.__exit__(*error)

    monkeypatch.setattr("deepsad_pl.experiment.run.locked_run", Watched)
    alone(tmp_path, *SSAD, "scenario.rounds=2")
    assert held == [set(), set(), set()]


def test_labels_matter_only_to_a_method_that_sees_them() -> None:
    plans = [plan_of(*LOOP, "method=deep_svdd", f"scenario.rounds={rounds}") for rounds in (0, 2)]
    assert plans[0].run_dir == plans[1].run_dir and plans[1].previous_round is None
    drawn = plan_of("method=deep_svdd", "scenario.gamma_p=0.09", "scenario.gamma_l=0")
    assert plans[0].identity == drawn.identity


def test_force_repeats_only_the_last_round(tmp_path: Path) -> None:
    alone(tmp_path, *SSAD, "scenario.rounds=1")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    forced = alone(tmp_path, *SSAD, "scenario.rounds=1", "force=true")
    changed = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == [forced.run_dir / "metrics.json"]
    assert json.loads(changed[0].read_text())[LABELED_ROWS] == asked(forced)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["threshold=conformal"], "threshold=conformal keeps samples out of training, but scenario=queried asks about"),
        (["threshold=labeled"], "threshold=labeled keeps samples out of training"),
        (["trainer=ddp", "trainer.accelerator=cpu"], "scenario=queried trains one experiment after the other"),
        (["scenario.query_by=best"], "scenario.query_by is 'best'; choose anomalous, uncertain, diverse, random"),
        (["scenario.start=-1"], "scenario.start is -1; it must be a whole number from 0 to 1,000,000"),
    ],
)
def test_impossible_settings_are_reported_before_any_work(words: list[str], told: str) -> None:
    assert any(problem.startswith(told) for problem in problems_of("scenario=queried", *words))


def test_a_pool_that_is_too_small_is_reported_before_any_round(tmp_path: Path) -> None:
    one = assigned(tmp_path, *SSAD, "scenario.rounds=40")
    with pytest.raises(DeepSADError, match="ask for 166 labels, but the pool has 117 rows"):
        alone(tmp_path, *SSAD, "scenario.rounds=40")
    assert not one.plan.run_dir.exists() and not records(tmp_path)


def test_a_method_that_needs_anomalies_says_what_to_do_without_any(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"none of the 0 samples asked about is a known anomaly; raise"):
        alone(tmp_path, *LOOP, "scenario.start=0", "method=classifier")
