"""The grids of the studies: the paper's numbers of experiments, without impossible or repeated ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from planned import METHODS, about
from studies import DIGITS, STUDIES, planner, study_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.override_text import quoted
from deepsad_pl.study.grid import Place, Study, Subject, places, study_problems

SCENARIO = {"normal_class": 0, "anomaly_class": 1, "gamma_l": 0.05, "gamma_p": 0.0, "k_l": 1, "gamma_n": 0.0}
UNSUPERVISED = (
    "deep_svdd",
    "autoencoder",
    *(f"{m}_{on}" for m in ("ocsvm", "iforest", "kde") for on in ("raw", "hybrid")),
)


def subject_of(method: str, classes: Sequence[str] = DIGITS, **chosen: Any) -> Subject:
    sees = method not in (*UNSUPERVISED, "soft_boundary_svdd")
    return Subject("digits", method, classes, sees, SCENARIO, chosen, lambda name, key: True, about)


def experiments(found: Sequence[Place]) -> int:
    return len({place.experiment for place in found})


def in_rows(found: Sequence[Place]) -> list[int]:
    """The number of experiments in each row of the table."""
    return list(Counter(place.row for place in found).values())


@pytest.mark.parametrize(
    ("study", "method", "once", "rows"),
    [
        ("labeled_anomalies", "deep_sad", 370, [10, 90, 90, 90, 90]),
        ("labeled_anomalies", "classifier", 360, [90, 90, 90, 90]),
        ("labeled_anomalies", "ss_dgm_m2", 360, [90, 90, 90, 90]),
        ("labeled_anomalies", "ssad_raw", 370, [10, 90, 90, 90, 90]),
        ("labeled_anomalies", "ocsvm_hybrid", 10, [10] * 5),
        ("labeled_anomalies", "soft_boundary_svdd", 20, [20] * 5),
        ("pollution", "deep_sad", 450, [90] * 5),
        ("pollution", "autoencoder", 50, [10] * 5),
        ("anomaly_classes", "deep_sad", 500, [100] * 5),
        ("anomaly_classes", "classifier", 400, [100] * 4),
        ("anomaly_classes", "kde_raw", 100, [100] * 5),
        ("eta", "deep_sad", 450, [90] * 5),
        ("eta", "ssad_raw", 90, [90] * 5),
        ("eta", "deep_svdd", 10, [10] * 5),
    ],
)
def test_the_studies_have_the_papers_numbers_of_experiments(
    study: str, method: str, once: int, rows: list[int]
) -> None:
    found = places(study_of(study), subject_of(method))
    assert experiments(found) == once
    assert in_rows(found) == rows


@pytest.mark.parametrize("method", ["deep_sad", "ocsvm_raw", "classifier"])
def test_classic_has_ten_seeds(method: str) -> None:
    found = places(study_of("classic"), subject_of(method, ("normal", "anomaly")))
    assert [place.seed for place in found] == list(range(10))
    assert {place.normal_class for place in found} == {"normal"}
    assert {place.anomaly_class for place in found} == {None if method == "ocsvm_raw" else "anomaly"}
    assert all(dict(place.experiment.settings)["scenario.gamma_l"] == 0.01 for place in found)


def test_without_labels_ssad_is_the_ocsvm() -> None:
    ssad = places(study_of("labeled_anomalies"), subject_of("ssad_raw"))
    ocsvm = places(study_of("labeled_anomalies"), subject_of("ocsvm_raw"))
    borrowed = [place for place in ssad if place.row == (0.0,)]
    assert {place.experiment for place in borrowed} == {place.experiment for place in ocsvm}
    assert {(place.column, place.borrowed) for place in borrowed} == {("ssad_raw", "ocsvm_raw")}
    assert all(place.borrowed is None for place in [*ocsvm, *(p for p in ssad if p.row != (0.0,))])


def test_columns_can_be_the_best_of_several_variants() -> None:
    variants = {
        place.variant: place.column
        for method in ("deep_svdd", "soft_boundary_svdd", "ss_dgm_m2", "ss_dgm_m1m2", "autoencoder")
        for place in places(study_of("pollution"), subject_of(method))
    }
    assert variants == {
        "deep_svdd": "deep_svdd",
        "soft_boundary_svdd, nu 0.01": "deep_svdd",
        "soft_boundary_svdd, nu 0.1": "deep_svdd",
        "ss_dgm_m2": "ss_dgm",
        "ss_dgm_m1m2": "ss_dgm",
        "autoencoder": "cae",
    }


def test_the_study_does_not_set_what_the_command_line_sets() -> None:
    chosen = {"scenario.gamma_p": 0.2, "method.nu": 0.5}
    found = places(study_of("labeled_anomalies"), subject_of("soft_boundary_svdd", **chosen))
    assert {place.variant for place in found} == {"soft_boundary_svdd"}
    assert all(not {*chosen} & {key for key, _ in place.experiment.settings} for place in found)


def test_a_scenario_without_labels_by_the_command_line_has_no_known_class() -> None:
    study = study_of("pollution", fixed={"scenario.k_l": 1})
    assert places(study, subject_of("classifier", **{"scenario.gamma_l": 0.0})) == []
    assert in_rows(places(study, subject_of("deep_sad", **{"scenario.gamma_l": 0.0}))) == [10] * 5


@settings(deadline=None)
@given(
    study=st.sampled_from([name for name in STUDIES if name not in ("toy", "classic")]),
    method=st.sampled_from(list(METHODS)),
    classes=st.integers(2, 7),
    normal=st.lists(st.integers(0, 1), min_size=1, max_size=2, unique=True),
    known=st.one_of(st.just("all"), st.none(), st.lists(st.integers(0, 1), min_size=1, max_size=2, unique=True)),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
)
def test_every_pair_is_valid_and_every_cell_occurs_once(
    study: str, method: str, classes: int, normal: list[int], known: Any, seeds: list[int]
) -> None:
    asked = study_of(study, normal_classes=normal, anomaly_classes=known, seeds=seeds)
    found = places(asked, subject_of(method, DIGITS[:classes]))
    keys = [(p.variant, p.row, p.normal_class, p.anomaly_class, p.seed) for p in found]
    assert len(keys) == len(set(keys))
    assert {p.normal_class for p in found} <= {DIGITS[i] for i in normal}
    assert all(p.normal_class != p.anomaly_class for p in found)
    for place in found:
        settings = dict(place.experiment.settings)
        assert (settings["scenario.normal_class"], settings["seed"]) == (place.normal_class, place.seed)
        assert settings["scenario.anomaly_class"] == place.anomaly_class
        unlabeled = study in ("labeled_anomalies", "anomaly_classes") and place.row[0] == 0
        depends = known is not None and subject_of(method).sees_labels and not unlabeled
        assert (place.anomaly_class is not None) == depends


@settings(deadline=None)
@example("a${x}'\\\\")
@example("\\\\${")
@example("\\\n")
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12))
def test_a_quoted_class_name_is_read_back(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"scenario.normal_class={quoted(name)}"])
    assert not override.is_sweep_override()
    # A job resolves text that looks like an interpolation.
    assert str(OmegaConf.create({"x": override.value()}).x) == name


@pytest.mark.parametrize("value", [0.0, 1e-05, 100.0, 3, None, True])
def test_a_quoted_number_is_read_back(value: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"x={quoted(value)}"])
    assert override.value() == value
    assert type(override.value()) is type(value)


@pytest.mark.parametrize("name", STUDIES)
def test_the_shipped_studies_have_no_problems(name: str) -> None:
    assert study_problems(study_of(name), METHODS) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"keys": {"x": "seed"}},
            "study.keys.x sets seed, which a study has a list of its own for; leave it out and set",
        ),
        ({"keys": {"x": "scenario.normal_class"}}, "set study.normal_classes=[0,1]"),
        ({"fixed": {"scenario.anomaly_class": 1}}, "study.fixed sets scenario.anomaly_class, which"),
        ({"variants": {"deep_sad": {"seed": [0, 1]}}}, "study.variants.deep_sad sets seed, which"),
        (
            {"figure": "budget"},
            "study.axes.x varies scenario.gamma_p, but study.figure=budget shows rounds and strategies",
        ),
    ],
)
def test_what_a_study_sets_by_itself_is_no_axis(changed: dict[str, Any], told: str) -> None:
    made = {"axes": {"x": [0.0, 0.1]}, "keys": {"x": "scenario.gamma_p"}, "depends": {"x": "all"}, **changed}
    (problem,) = study_problems(replace(study_of("toy"), **made), METHODS)
    assert told in problem


@pytest.mark.parametrize("axis", ["seed", "known", "auroc", "value"])
def test_an_axis_has_no_name_of_a_column(axis: str) -> None:
    made = {"axes": {axis: [0.0]}, "keys": {axis: "scenario.gamma_p"}, "depends": {axis: "all"}}
    (problem,) = study_problems(replace(study_of("toy"), **made), METHODS)
    assert problem == f"study.axes has {axis}, which results.csv has as a column of its own; choose another name"


def test_all_problems_of_a_study_are_told_at_once() -> None:
    study = study_of(
        "labeled_anomalies",
        datasets=[],
        methods=["deep_sad", "deep_bad", "deep_sad"],
        axes={"gamma_l": [], "gamma_x": [0.1]},
        depends={"gamma_l": "some"},
        figure="pie",
        normal_classes=0,
        anomaly_classes=[],
    )
    told = "\n".join(study_problems(study, METHODS))
    for part in (
        "datasets",
        "deep_bad",
        "axes.gamma_l",
        "keys",
        "gamma_x",
        "some",
        "deep_sad more",
        "pie",
        "normal_classes is 0",
        "anomaly_classes is []",
    ):
        assert part in told


def test_a_study_takes_single_classes_and_no_null() -> None:
    told = study_problems(study_of("pollution", normal_classes=None, anomaly_classes=[1, [2, 3]]), METHODS)
    assert ["normal_classes is None" in told[0], "anomaly_classes has the list [2, 3]" in told[1]] == [True, True]
    with pytest.raises(DeepSADError, match=r"study.anomaly_classes on dataset=digits: there is no class null"):
        places(study_of("pollution", anomaly_classes=[None]), subject_of("deep_sad"))


def test_a_missing_class_is_named_with_its_key() -> None:
    with pytest.raises(DeepSADError, match=r"study.normal_classes on dataset=digits: there is no class 'cat'"):
        places(study_of("pollution", normal_classes=["cat"]), subject_of("deep_sad"))


def test_plans_of_different_experiments_have_different_folders() -> None:
    study: Study = study_of(
        "labeled_anomalies", datasets=["digits"], axes={"gamma_l": [0.0, 0.05]}, normal_classes=[0, 1]
    )
    with planner() as plan:
        planned = plan.plan(study, {})
    assert len(planned.unique) == len(planned.jobs) == len({place.experiment for place in planned.places})


def test_settings_that_a_method_ignores_make_no_other_experiment() -> None:
    """A method that the grid runs once has the same plan in every row."""
    study = study_of("labeled_anomalies", datasets=["digits"], methods=["ocsvm_raw", "deep_svdd"], normal_classes=[3])
    everywhere = {**study.depends, "gamma_l": "all"}
    with planner() as plan:
        once = plan.plan(study, {})
        always = plan.plan(replace(study, depends=everywhere), {})
    assert len(always.jobs) == 5 * len(once.jobs)
    assert {j.plan.run_dir for j in always.unique} == {j.plan.run_dir for j in once.unique}


def test_settings_are_set_only_for_methods_that_have_them() -> None:
    study = study_of("labeled_anomalies", fixed={"method.kappa": 2.0, "scenario.k_l": 1}, depends={"gamma_l": "all"})
    lacking = replace(subject_of("ssad_raw"), has=lambda method, key: key != "method.kappa" or method == "ssad_raw")
    found = places(study, lacking)
    assert {("method.kappa" in dict(p.experiment.settings), p.experiment.method) for p in found} == {
        (True, "ssad_raw"),
        (False, "ocsvm_raw"),
    }


def normal_and_known(found: Sequence[Place]) -> set[tuple[str, str | None]]:
    return {(place.normal_class, place.anomaly_class) for place in found}


def test_a_sample_has_the_same_pairs_for_all_methods_and_values() -> None:
    study = replace(study_of("labeled_anomalies"), sample=10)
    sad, ssad = (places(study, subject_of(method)) for method in ("deep_sad", "ssad_raw"))
    assert in_rows(sad) == in_rows(ssad) == [10] * 5
    rows = [{(p.normal_class, p.anomaly_class) for p in sad if p.row == row} for row in {p.row for p in sad}]
    pairs = max(rows, key=lambda row: None not in {known for _, known in row})
    assert sorted(normal for normal, _ in pairs) == sorted(DIGITS)
    assert sorted(str(known) for _, known in pairs) == sorted(DIGITS)
    assert normal_and_known(sad) == normal_and_known(ssad)
    assert {place.population for place in sad} == {90, 10}


def test_a_larger_sample_contains_the_smaller_one() -> None:
    study = study_of("pollution")
    small, large = (places(replace(study, sample=size), subject_of("deep_sad")) for size in (7, 23))
    assert {place.experiment for place in small} < {place.experiment for place in large}
    assert in_rows(small) == [7] * 5
    assert normal_and_known(large) != normal_and_known(
        places(replace(study, sample=23, sample_seed=1), subject_of("deep_sad"))
    )


def test_a_method_that_ignores_labels_runs_for_the_normal_classes_of_the_sample() -> None:
    study = replace(study_of("labeled_anomalies"), sample=4)
    supervised, unsupervised = (places(study, subject_of(method)) for method in ("classifier", "deep_svdd"))
    assert {place.normal_class for place in unsupervised} == {place.normal_class for place in supervised}
    assert in_rows(unsupervised) == [4] * 5


def test_where_the_seed_draws_the_known_classes_pairs_have_a_normal_class_and_a_seed() -> None:
    study = replace(study_of("anomaly_classes"), sample=10)
    for method in ("deep_sad", "kde_raw"):
        found = places(study, subject_of(method))
        drawn = {(place.normal_class, place.seed) for place in found}
        assert len(drawn) == len({normal for normal, _ in drawn}) == len({seed for _, seed in drawn}) == 10


def test_a_sample_must_be_smaller_than_the_study() -> None:
    study = study_of("labeled_anomalies")
    with pytest.raises(DeepSADError, match=r"study\.sample is 90, but dataset=digits has 90 pairs of a normal"):
        places(replace(study, sample=90), subject_of("deep_sad"))
    assert in_rows(places(replace(study, sample=89), subject_of("classifier"))) == [89] * 4
    given = replace(subject_of("deep_sad"), scenario={"given": True, "selection": "none"})
    with pytest.raises(DeepSADError, match="comes with its labels"):
        places(replace(study, sample=5), given)
    assert study_problems(replace(study, sample=0), ["deep_sad", *METHODS]) == [
        "study.sample is 0; give a number of pairs of at least 1, or null for all"
    ]
