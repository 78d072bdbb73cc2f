"""The time before any similar experiment is finished: sharing, stacks, processes, and the words for it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from planned import plan_of

from deepsad_pl.experiment.plan import Plan
from deepsad_pl.study import rough_estimate as rough
from deepsad_pl.study import show_state as shown
from deepsad_pl.study.jobs import Job
from deepsad_pl.study.machine_speed import probe_seconds
from deepsad_pl.study.state import State

LABELED = ("scenario.normal_class=0", "scenario.anomaly_class=1", "scenario.gamma_l=0.05", "trainer=cpu")
# Ten steps over 1,052 rows, 52 of them labeled.
ALONE = 20 + 1052


def cheap(*words: str) -> Plan:
    """An experiment on a table, of which a step costs 2 and a sample 1, in pre-training and training."""
    pretrain = () if "pretrain=none" in words else ("pretrain.epochs=[1,0]",)
    plan = plan_of("dataset=cardio", *LABELED, "method.epochs=[1,0]", *pretrain, *words)
    network = plan.dataset.network
    facts = replace(network.about, step_cost=2.0, operation_cost=1e6 / 1312, value_cost=0.0)
    counts = replace(plan.dataset.about, rows=[1000, 500], own_test_set=True)
    return replace(
        plan,
        dataset=replace(plan.dataset, about=counts, network=replace(network, about=facts)),
        method=replace(plan.method, batch_size=106, about=replace(plan.about, cost=1.0)),
        pretrain=plan.pretrain and replace(plan.pretrain, batch_size=106, about=replace(plan.pretrain.about, cost=1.0)),
    )


estimate = partial(rough.rough_estimate, finished=(), processes=1, most_in_stack=1)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rough, "driver_has_gpu", lambda: False)


def test_experiments_that_run_one_after_the_other_add_up() -> None:
    plans = [cheap("pretrain=none", f"seed={seed}") for seed in range(3)]
    assert estimate(plans) == rough.RoughEstimate(pytest.approx(3 * ALONE), 0, 0)


def test_a_shared_autoencoder_counts_once() -> None:
    plans = [cheap(f"method.eta={eta}") for eta in (1, 2, 3)]
    assert estimate(plans).cost == pytest.approx(4 * ALONE)
    assert estimate(plans, finished=[cheap("method.eta=4")]).cost == pytest.approx(3 * ALONE)
    apart = [cheap(f"method.eta={eta}", "pretrain.cache=false") for eta in (1, 2, 3)]
    assert estimate(apart).cost == pytest.approx(6 * ALONE)


def test_a_stack_shares_its_steps() -> None:
    plans = [cheap("pretrain=none", f"seed={seed}") for seed in range(4)]
    assert estimate(plans, most_in_stack=32).cost == pytest.approx(20 + 4 * 1052)
    assert estimate(plans, most_in_stack=2).cost == pytest.approx(2 * 20 + 4 * 1052)


def test_large_images_share_no_steps() -> None:
    plans = [cheap("pretrain=none", f"seed={seed}") for seed in range(4)]
    shape = [1, 9, 9]  # more than 8,192 pixels in a batch of 106
    plans = [
        replace(plan, dataset=replace(plan.dataset, about=replace(plan.dataset.about, shape=shape))) for plan in plans
    ]
    assert estimate(plans, most_in_stack=32) == estimate(plans)


def test_a_stack_also_shares_autoencoders() -> None:
    plans = [cheap(f"method.eta={eta}") for eta in (1, 2, 3)]
    assert estimate(plans, most_in_stack=32).cost == pytest.approx(2 * 20 + 4 * 1052)


def test_processes_share_the_work_but_not_an_experiment() -> None:
    plans = [cheap("pretrain=none", f"seed={seed}") for seed in range(4)]
    assert estimate(plans, processes=2).cost == pytest.approx(2 * ALONE)
    assert estimate(plans[:1], processes=8).cost == pytest.approx(ALONE)
    # As few as four rows of a table make no second stack.
    assert estimate(plans, processes=8, most_in_stack=32).cost == pytest.approx(20 + 4 * 1052)


def test_what_is_not_declared_and_what_runs_on_a_gpu_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = cheap("pretrain=none")
    undeclared = replace(plan, method=replace(plan.method, about=replace(plan.about, cost=None)))
    on_gpu = replace(plan, trainer={**plan.trainer, "accelerator": "gpu"})
    assert estimate([plan, undeclared, on_gpu]) == rough.RoughEstimate(pytest.approx(ALONE), 1, 1)
    auto = replace(plan, trainer={**plan.trainer, "accelerator": "auto"})
    shallow = replace(plan_of("dataset=cardio", "method=kde_raw"), trainer=auto.trainer)
    assert estimate([auto, shallow]).on_gpu == 0
    monkeypatch.setattr(rough, "driver_has_gpu", lambda: True)
    assert estimate([auto, shallow]).on_gpu == 1


def told(plans: Sequence[Plan], records: dict[Path, dict[str, Any]] | None = None, processes: int = 1) -> str:
    state = State(records or {}, [], [], [Job((), plan) for plan in plans])
    return shown._time(state, [], processes, 1)


def test_the_words_say_that_it_is_rough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "probe_seconds", lambda: 10.0)
    plan = cheap("pretrain=none")
    undeclared = replace(plan, method=replace(plan.method, name="mine", about=replace(plan.about, cost=None)))
    why = "since no similar one is finished"
    rough_only = f"rough: from the speed of a core of this machine, {why}"
    assert told([plan]) == f", about 3.0 h one after the other ({rough_only})"
    assert told([plan, cheap("pretrain=none", "seed=1")], processes=2) == f", about 3.0 h on 2 processes ({rough_only})"
    assert told([undeclared]) == f" (no time estimate, {why} and nothing declares their cost)"
    on_gpu = replace(plan, trainer={**plan.trainer, "accelerator": "gpu"})
    assert told([on_gpu]) == f" (no time estimate, {why} and the speed of a GPU is not known beforehand)"
    assert told([plan, undeclared]).endswith(f"({rough_only}; not counting 1, {why} and nothing declares their cost)")


def test_similar_finished_experiments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError("the probe is not needed")

    monkeypatch.setattr(shown, "probe_seconds", never)
    plan = cheap("pretrain=none")
    record = {"dataset": "cardio", "method": "deep_sad", "seconds": {"pretrain": 0.0, "fit": 3600.0}}
    assert told([plan, plan], {Path("x"): record}) == ", about 2.0 h one after the other"
    other = cheap("pretrain=none", "method=deep_svdd")
    monkeypatch.setattr(shown, "probe_seconds", lambda: 3600 / (20 + 1000))
    assert told([plan, other], {Path("x"): record}) == (
        ", about 2.0 h one after the other (rough for 1 of them: from the speed of a core of this machine, since no "
        "similar one is finished)"
    )


def test_the_probe_is_short_and_measured_once() -> None:
    unit = probe_seconds()
    assert 1e-5 < unit < 0.1
    assert probe_seconds() == unit
