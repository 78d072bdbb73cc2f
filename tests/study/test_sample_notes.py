"""The sentence of a report that says what it is a sample of."""

from dataclasses import replace
from pathlib import Path

from studies import planner, study_of

from deepsad_pl.study.grid import Place, Study
from deepsad_pl.study.results import result_frames
from deepsad_pl.study.sample_notes import sample_notes

ONCE = "; a method that does not see labels is run once for each normal class among them."


def planned(study: Study) -> tuple[Study, list[Place]]:
    with planner() as made:
        return study, made.cells(study)


def sampled(size: int | None, *methods: str, seed: int = 0, name: str = "labeled_anomalies") -> Study:
    study = study_of(name, datasets=["digits"], methods=methods or ["deep_sad"])
    return replace(study, sample=size, sample_seed=seed)


def test_a_report_without_a_sample_says_nothing() -> None:
    assert sample_notes([planned(sampled(None))]) == []


def test_it_says_how_many_of_how_many_pairs() -> None:
    told = "A sample of the study: 10 of 90 pairs of a normal and a known class, drawn by study.sample_seed=3"
    assert sample_notes([planned(sampled(10, seed=3))]) == [told + ONCE]
    # The ten experiments of a method that does not see labels are not a sample of 10.
    assert sample_notes([planned(sampled(10, "kde_raw", seed=3))]) == [told + ONCE]


def test_pairs_may_be_of_a_normal_class_and_a_seed() -> None:
    study = sampled(5, name="anomaly_classes")
    of = len(study.seeds) * 10
    told = f"A sample of the study: 5 of {of} pairs of a normal class and a seed, drawn by study.sample_seed=0."
    assert sample_notes([planned(study)]) == [told]


def test_several_commands_are_told_one_by_one() -> None:
    small, large, whole = sampled(4), sampled(10, seed=1), sampled(None, "kde_raw")
    (two, ten, rest) = sample_notes([planned(study) for study in (small, large, small, whole)])
    assert two.startswith("A sample of the study: 4 of 90 pairs")
    assert ten.startswith("A sample of the study: 10 of 90 pairs")
    assert rest == "Other experiments of the table were run without a sample."


def test_a_sample_that_has_grown_is_told_once() -> None:
    small, large, whole = sampled(4), sampled(10), sampled(None)
    (ten,) = sample_notes([planned(study) for study in (large, small)])
    assert ten.startswith("A sample of the study: 10 of 90 pairs")
    assert sample_notes([planned(study) for study in (small, whole)]) == []
    # It has grown for one of two methods, so that some cells still have the small one.
    both = sample_notes([planned(study) for study in (large, sampled(4, "deep_sad", "ssad_raw"))])
    assert [note[:30] for note in both] == ["A sample of the study: 10 of 9", "A sample of the study: 4 of 90"]


def test_data_sets_with_other_numbers_of_pairs_are_named() -> None:
    study, places = planned(sampled(4))
    fewer = [replace(place, pairs=12, experiment=replace(place.experiment, dataset="letters")) for place in places]
    (told,) = sample_notes([(study, [*places, *fewer])])
    assert "4 of 90 pairs (digits), 4 of 12 pairs (letters) of a normal" in told


def test_the_frame_has_the_population_of_each_cell(tmp_path: Path) -> None:
    study = replace(sampled(10, "deep_sad", "kde_raw"), axes={"gamma_l": [0.0, 0.05]})
    with planner(f"output_dir={tmp_path}") as made:
        plans = made.plan(study, {})
        whole = made.plan(replace(study, sample=None, methods=["kde_raw"]), {})
    frame, by_known = result_frames([plans], {}, study, ())
    found = frame.groupby(["column", "gamma_l"])["population"].unique()
    assert {key: values.tolist() for key, values in found.items()} == {
        ("deep_sad", 0.0): [10],
        ("deep_sad", 0.05): [90],
        ("kde_raw", 0.0): [10],
        ("kde_raw", 0.05): [10],
    }
    assert "population" not in by_known
    assert result_frames([whole], {}, study, ())[0]["population"].isna().all()
