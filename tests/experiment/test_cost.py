"""What an experiment costs by its plan: the arithmetic, with round numbers in place of the declared ones."""

from dataclasses import replace
from typing import Any

import pytest
from planned import METHODS, about, plan_of

from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.cost import Part, factor_of, parts_of, training_counts
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.warm_start import KEY
from deepsad_pl.settings.about import own


def with_round_numbers(plan: Plan, **costs: float) -> Plan:
    """A step costs 2, a million multiply-adds 100, a million values 1000, and each training as much as Deep SAD's."""
    network = plan.dataset.network
    facts = replace(network.about, step_cost=2.0, operation_cost=100.0, value_cost=1000.0)
    dataset = replace(plan.dataset, network=replace(network, about=facts))
    method = replace(plan.method, about=replace(plan.about, **{"cost": 1.0, **costs}))
    pretrain = plan.pretrain and replace(plan.pretrain, about=replace(plan.pretrain.about, cost=3.0))
    return replace(plan, dataset=dataset, method=method, pretrain=pretrain)


def numbers(part: Part) -> tuple[float, float]:
    return part.per_stack, part.per_experiment


def test_a_training_costs_its_steps_and_its_samples() -> None:
    words = ("scenario.normal_class=0", "scenario.gamma_l=0.05", "scenario.anomaly_class=1", "method.batch_size=200")
    plan = plan_of("dataset=mnist", *words, "method.epochs=[3,2]", "pretrain.epochs=[4,0]", "pretrain.batch_size=100")
    parts = parts_of(with_round_numbers(plan))
    assert parts is not None
    total = 5923 + 311  # 311 of 6,234 rows are a twentieth, rounded down
    sample = 100 * 0.319872 + 1000 * 0.007088
    assert numbers(parts[1]) == pytest.approx((5 * 2 * 32, 5 * total * sample))
    assert numbers(parts[0]) == pytest.approx((3 * 4 * 2 * 63, 3 * 4 * total * sample))
    assert parts[0].key is not None and parts[1].key is None


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ((), 5923 + 311),
        (("method=deep_svdd",), 5923),
        (("scenario.gamma_l=0", "scenario.gamma_p=0.1"), 5923 + 658),
        (("scenario.gamma_l=0", "scenario.labels=7"), 5923 + 7),
        (("scenario.unlabeled=all", "scenario.gamma_p=0"), 60_000),
        (("scenario.normal_class=[0,1]", "scenario.anomaly_class=2", "scenario.gamma_l=0"), 5923 + 6742),
        (("threshold=conformal", "threshold.share=0.2", "method=deep_svdd"), 4739),
        (("scenario=queried", "scenario.gamma_p=0"), 5923),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_rows_of_a_training(words: tuple[str, ...], rows: int) -> None:
    drawn = () if "scenario=queried" in words else ("scenario.gamma_l=0.05", "scenario.anomaly_class=1")
    given = [word.split("=")[0] for word in words]
    defaults = [word for word in drawn if word.split("=")[0] not in given]
    plan = plan_of(
        "dataset=mnist",
        "scenario.normal_class=0" if "scenario.normal_class" not in given else "seed=0",
        "pretrain=none",
        "method.epochs=[1,0]",
        "method.batch_size=200",
        *defaults,
        *words,
    )
    parts = parts_of(with_round_numbers(plan))
    assert parts is not None
    assert parts[0].per_experiment / (100 * 0.319872 + 1000 * 0.007088) == pytest.approx(rows)


@pytest.mark.parametrize("words", [("dataset=digits",), ("dataset=toy",), ("dataset=toy", "dataset.test_share=0.3")])
def test_the_declared_size_is_that_of_the_data(words: tuple[str, ...]) -> None:
    plan = plan_of(*words, "scenario.normal_class=0", "scenario.anomaly_class=1", "scenario.gamma_l=0.05")
    source = load_data(plan)
    counts = training_counts(plan)
    assert counts is not None and plan.dataset.about.shape == list(source.shape)
    assert counts.total == pytest.approx(build(plan, source).data.counts.total, abs=2)


def test_the_paper_s_tables_have_the_declared_sizes() -> None:
    from deepsad_pl.data.odds import ODDS_FILES

    for name, file in ODDS_FILES.items():
        facts = own("dataset")[name]["about"]
        assert (facts["shape"], facts["rows"]) == ([file.columns], [file.rows - file.outliers, file.outliers])


def test_adbench_s_sizes_are_those_of_its_list() -> None:
    facts = plan_of("dataset=adbench", "dataset.table=2_annthyroid").dataset.about
    assert (facts.shape, facts.rows) == ([6], [7200 - 534, 534])


def test_a_shallow_fit_grows_by_powers_and_candidates() -> None:
    plan = plan_of("dataset=cardio", "method=ocsvm_raw", "method.gammas=[1,2,3]", "method.nus=[0.1,0.5]")
    plan = with_round_numbers(plan, cost=10.0, cost_rows=2.0, cost_columns=0.5)
    parts = parts_of(plan)
    rows = round(0.6 * 1655)
    expected = 10 * (rows / 1000) ** 2 * (21 / 100) ** 0.5 * 6
    assert parts is not None and len(parts) == 1
    assert numbers(parts[0]) == pytest.approx((0.0, expected))


@pytest.mark.parametrize(("selection", "factor"), [("test_subset", 6), ("holdout", 3), ("none", 1)])
def test_only_candidates_that_are_used_count(selection: str, factor: int) -> None:
    words = ("method.gammas=[1,2,3]", "method.nus=[0.1,0.5]", f"method.selection={selection}")
    assert factor_of(plan_of("dataset=cardio", "method=ocsvm_raw", *words).method) == factor


def test_a_number_multiplies_too() -> None:
    assert factor_of(plan_of("dataset=cardio", "method=iforest_raw", "method.trees=70").method) == 70


def test_a_hybrid_is_fitted_on_the_representation_of_a_training() -> None:
    plan = plan_of("dataset=mnist", "method=kde_hybrid", "scenario.normal_class=0", "method.bandwidths=[1]")
    parts = parts_of(with_round_numbers(plan, cost=10.0, cost_rows=0.0, cost_columns=1.0))
    assert parts is not None and len(parts) == 2
    assert parts[1].per_experiment == pytest.approx(10 * 32 / 100)


def test_what_declares_nothing_has_no_estimate() -> None:
    plan = plan_of("dataset=cardio", "method=deep_sad")
    assert parts_of(plan) is not None
    for without in (
        replace(plan, dataset=replace(plan.dataset, about=replace(plan.dataset.about, rows=None))),
        replace(plan, method=replace(plan.method, about=replace(plan.about, cost=None))),
        replace(
            plan,
            dataset=replace(
                plan.dataset,
                network=replace(plan.dataset.network, about=replace(plan.dataset.network.about, work=None)),
            ),
        ),
    ):
        assert parts_of(without) is None


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_package_declares_its_cost(method: str) -> None:
    choices = ["dataset=cardio", f"method={method}"]
    parts = parts_of(plan_of(*choices, "scenario.gamma_l=0.05"))
    assert parts is not None
    assert all(part.per_stack + part.per_experiment > 0 for part in parts)
    assert len(parts) == (1 if about(method).pretrain[0] == "none" else len(parts))


def test_the_same_autoencoder_has_one_key() -> None:
    def keys(*words: str) -> list[Any]:
        parts = parts_of(plan_of("dataset=digits", "scenario.normal_class=0", *words))
        assert parts is not None
        return [part.key for part in parts]

    labeled = ("scenario.anomaly_class=1", "scenario.gamma_l=0.05")
    first, own_fit = keys("method=deep_sad", *labeled)
    assert own_fit is None
    assert keys("method=ssad_hybrid", *labeled)[0] == first
    assert keys("method=deep_sad", *labeled, "method.eta=5")[0] == first
    unlabeled = keys("method=deep_svdd")[0]
    assert keys("method=ocsvm_hybrid")[0] == keys("method=autoencoder")[0] == unlabeled != first
    assert keys("method=deep_sad", *labeled, "pretrain.data=unlabeled")[0] == unlabeled
    assert keys("method=deep_svdd", "seed=1")[0] != unlabeled
    assert keys("method=deep_svdd", "pretrain.cache=false")[0] is None


def test_with_weights_of_an_earlier_run_nothing_is_pretrained() -> None:
    plan = plan_of("dataset=cardio")
    warm = replace(plan, identity={**plan.identity, KEY: "x"})
    assert warm.starts_warm
    assert [len(parts_of(one) or ()) for one in (plan, warm)] == [2, 1]
