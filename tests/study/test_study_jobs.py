"""From a study and a command line to planned experiments, remembered requests, and the state of the experiments."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_records import write_finished
from planned import settings_of
from studies import planner, study_of
from tiny_data import write_image_folder

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import image_folder
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.study.command_line import sort_overrides
from deepsad_pl.study.grid import Study
from deepsad_pl.study.jobs import Job, Planned
from deepsad_pl.study.requests import Memory, Request, alike, literal
from deepsad_pl.study.results import results_frame
from deepsad_pl.study.state import estimate, state_of
from deepsad_pl.sweep.failures import STOPPED, Failures

KEYS = {"gamma_l": "scenario.gamma_l"}


def words(*overrides: str) -> Any:
    return sort_overrides(OverridesParser.create().parse_overrides(list(overrides)), KEYS)


def small(**changed: Any) -> Study:
    fields = {
        "datasets": ["digits"],
        "methods": ["deep_sad", "ssad_raw"],
        "normal_classes": [0],
        "axes": {"gamma_l": [0.05]},
    }
    return study_of("labeled_anomalies", **{**fields, **changed})


def plan(*passed_on: str, **changed: Any) -> Planned:
    with planner(*passed_on) as made:
        return made.plan(small(**changed), {})


def test_the_words_of_a_command_line_are_sorted_out() -> None:
    found = words(
        "study=eta",
        "dataset=mnist,fmnist",
        "method=deep_sad",
        "seed=0,1",
        "trainer.max_epochs=1",
        "dry_run=true",
        "figure.style=slides",
    )
    assert found.narrowed == {"datasets": ["mnist", "fmnist"], "methods": ["deep_sad"], "seeds": [0, 1]}
    assert found.passed_on == ("trainer.max_epochs=1",)


def test_quotes_are_not_part_of_a_name() -> None:
    assert words("dataset='mnist',fmnist").narrowed == {"datasets": ["mnist", "fmnist"]}
    assert words("method='deep_sad'", 'seed="1",2').narrowed == {"methods": ["deep_sad"], "seeds": [1, 2]}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("scenario.gamma_l=0.1", "study.axes.gamma_l"),
        ("scenario.normal_class=1", "study.normal_classes"),
        ("scenario.anomaly_class=1", "study.anomaly_classes"),
        ("method.eta=1,2", "comma lists of dataset, method and seed only"),
        ("seed=a", "integer"),
    ],
)
def test_settings_that_the_study_decides_are_refused_with_the_way_out(override: str, told: str) -> None:
    with pytest.raises(DeepSADError, match=told):
        words(override)


def test_setting_the_same_thing_twice_is_refused() -> None:
    with pytest.raises(DeepSADError, match=r"dataset=mnist and study.datasets"):
        words("dataset=mnist", "study.datasets=[fmnist]")


def test_overrides_work_for_train_and_make_the_same_plan() -> None:
    planned = plan("trainer.max_epochs=1", "recipe=paper", "output_dir=elsewhere")
    assert len(planned.unique) == 18
    for job in [planned.unique[0], planned.unique[-1]]:
        assert job.plan == make_plan(settings_of(*job.overrides), multirun=True)


def test_a_setting_of_one_method_goes_to_that_method() -> None:
    planned = plan("method.eta=2", "method.kappa=0.5")
    of = {job.plan.method.name: " ".join(job.overrides) for job in planned.unique}
    assert "method.eta=2" in of["deep_sad"]
    assert "method.kappa" not in of["deep_sad"]
    assert "method.kappa=0.5" in of["ssad_raw"]
    assert "method.eta" not in of["ssad_raw"]


def test_a_setting_that_no_method_has_is_refused() -> None:
    with pytest.raises(DeepSADError, match=r"method.nu=0.3: none of the methods deep_sad, ssad_raw has method.nu"):
        plan("method.nu=0.3")
    with pytest.raises(DeepSADError, match="gamma_q"):
        plan("scenario.gamma_q=1")


def test_wrong_values_are_reported_once_and_all_at_once() -> None:
    with pytest.raises(DeepSADError) as caught:
        plan("method.eta=-1", "trainer.precision=8")
    assert len(caught.value.problems) == 2


def test_unknown_choices_are_reported_in_one_line() -> None:
    with pytest.raises(DeepSADError, match=r"^dataset has no option minst; did you mean mnist\? .*thyroid.*$"):
        plan(datasets=["minst"])


def test_settings_without_effect_on_results_are_added_unless_given() -> None:
    with planner("trainer.threads=3") as made:
        jobs = made.plan(small(), {"trainer.threads": "1", "logger.group": "g"}).unique
    assert all("trainer.threads=3" in job.overrides and "logger.group=g" in job.overrides for job in jobs)
    assert not any("trainer.threads=1" in job.overrides for job in jobs)


def test_labeled_normals_make_unsupervised_methods_depend_on_the_rest() -> None:
    """With pollution and labeled normals the number of polluting rows depends on gamma_l for every method."""
    changed = {"methods": ["ocsvm_raw"], "axes": {"gamma_l": [0.05, 0.1]}}
    assert len(plan(**changed).unique) == 1
    assert len(plan("scenario.gamma_n=0.1", "scenario.gamma_p=0.1", **changed).unique) == 18


def test_requests_are_remembered_with_the_latest_last(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "studies")
    assert memory.all() == []
    one, other = Request((), {"datasets": ["digits"]}), Request(("trainer.max_epochs=1",), {})
    for request in (one, other, one):
        memory.add(request)
    assert memory.all() == [other, one]


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[", "{}", "null", "3", "\0", "[" * 100_000),
        *('["a"]', "[{}]", '[{"passed_on": "seed=1", "narrowed": {}}]', '[{"passed_on": [1], "narrowed": {}}]'),
        *('[{"passed_on": [], "narrowed": []}]', '[{"passed_on": [], "narrowed": {"colour": 1}}]'),
    ],
)
def test_damaged_requests_are_skipped_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "requests.json"
    path.write_text(content)
    assert Memory(tmp_path).all() == []
    request = Request((), {"datasets": ["digits"]})
    Memory(tmp_path).add(request)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{path} is damaged (")
    assert Memory(tmp_path).all() == [request]
    assert (tmp_path / "requests.json.damaged").read_text() == content


def test_one_damaged_request_affects_no_other(tmp_path: Path) -> None:
    memory, kept = Memory(tmp_path), Request(("recipe=paper",), {"seeds": [0]})
    memory.add(kept)
    path = tmp_path / "requests.json"
    path.write_text(json.dumps([*json.loads(path.read_text()), {"passed_on": 3}]))
    assert memory.all() == [kept]


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="$"), max_size=6)
)
# Hydra reads these keys as values, and has no quotes for keys.
PLAIN_KEYS = st.from_regex(r"[a-z_]+(\.[a-z]+)?", fullmatch=True).filter(
    lambda key: key not in ("inf", "nan", "null", "true", "false")
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_KEYS, inner),
)


@settings(max_examples=40, deadline=None)
@given(NESTED)
@example("1_0")
@example("true")
@example("it's a \\' \\\\")
@example({"gamma_l": [0.0, 0.05]})
def test_a_value_is_written_as_hydra_reads_it(value: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={literal(value)}"])
    assert override.value() == value
    assert type(override.value()) is type(value)


def test_a_request_is_shown_as_words_that_can_be_typed() -> None:
    narrowed = {"datasets": ["digits", "satimage-2"], "seeds": [0, 1], "axes": {"gamma_l": [0.0]}, "title": "it's"}
    shown = str(Request(("trainer.max_epochs=1", "method.lr=[1e-3]"), narrowed))
    assert shown == (
        "dataset=digits,satimage-2 seed=0,1 'study.axes={gamma_l:[0.0]}' "
        "'study.title='\"'\"'it\\'\"'\"'s'\"'\"'' trainer.max_epochs=1 'method.lr=[1e-3]'"
    )
    assert words(*shlex.split(shown)).narrowed == {"datasets": ["digits", "satimage-2"], "seeds": [0, 1]}


def test_requests_differ_only_by_what_changes_results() -> None:
    request = Request(("logger=none", "recipe=paper"), {"datasets": ["a"]})
    same = Request(("recipe=paper", "trainer.threads=1", "output_dir=x"), {"datasets": ["b"]})
    other = Request(("recipe=paper", "trainer.max_epochs=1"), {"datasets": ["c"]})
    assert alike([request, same, other], request) == [same, request]


def finish(job: Job, auroc: float, seconds: float = 1.0, **more: Any) -> None:
    write_finished(job.plan, auroc=auroc, seconds={"fit": seconds, "score": 0.5}, **more)


def test_state_and_time_estimate_are_correct(tmp_path: Path) -> None:
    jobs = plan(f"output_dir={tmp_path}").unique
    failures = Failures(tmp_path / "failures")
    deep = [job for job in jobs if job.plan.method.name == "deep_sad"]
    shallow = [job for job in jobs if job not in deep]
    finish(deep[0], 0.9, 3.0)
    finish(deep[1], 0.8, 5.0)
    failures.note(deep[2].overrides, "the power is out")
    failures.note(deep[3].overrides, STOPPED)
    deep[4].plan.run_dir.mkdir(parents=True)
    with FileLock(deep[4].plan.run_dir / ".lock"):
        state = state_of(jobs, failures)
    assert len(state.records) == 2
    assert state.failed == [(deep[2], "the power is out"), (deep[3], STOPPED)]
    assert state.working == [deep[4]]
    assert len(state.waiting) == 18 - 5
    assert sorted(map(str, state.missing)) == sorted(map(str, jobs[2:]))

    left = estimate(state.missing, state.records.values())
    assert left.seconds == pytest.approx((len(deep) - 2) * 4.5)
    assert left.unknown == [job for job in state.missing if job in shallow]

    failures.forget(deep[2].overrides)
    assert state_of(jobs, failures).failed == [(deep[3], STOPPED)]


def test_a_failure_note_belongs_to_the_experiment_wherever_it_runs(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    failures.note(["seed=1", "trainer.threads=1", "dataset=a"], "no")
    assert failures.error(["dataset=a", "seed=1", "logger=none"]) == "no"
    assert failures.error(["dataset=a", "seed=1", "trainer.max_epochs=1"]) is None


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{", '{"error": 3}', b"\xff\xfe", ""])
def test_a_damaged_note_is_reported_as_damaged(tmp_path: Path, content: str | bytes) -> None:
    (job, *_) = plan(f"output_dir={tmp_path}").unique
    failures = Failures(tmp_path / "failures")
    failures.note(job.overrides, "no")
    (path,) = (tmp_path / "failures").iterdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ((failed, told),) = state_of([job], failures).failed
    assert failed == job
    assert told.startswith(f"the error message is lost, since {path} is damaged (")


def test_an_experiment_without_scores_is_unfinished_but_reported(tmp_path: Path) -> None:
    one, other = plan(f"output_dir={tmp_path}").unique[:2]
    failures = Failures(tmp_path / "failures")
    finish(one, 0.9)
    finish(other, 0.8)
    scores = one.plan.run_dir / "scores.csv"
    content = scores.read_bytes()
    finish(one, 0.9, scores={"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    assert state_of([one, other], failures).missing == []
    # A changed digit leaves the size as it is.
    for damage in (lambda: scores.write_bytes(content.replace(b".", b"7", 1)), scores.unlink):
        damage()
        assert state_of([one, other], failures).missing == [one]
    assert len(state_of([one, other], failures, with_scores=False).records) == 2


def test_an_experiment_with_an_invalid_record_is_unfinished(tmp_path: Path) -> None:
    (job, *_) = plan(f"output_dir={tmp_path}").unique
    finish(job, 1.5)
    assert state_of([job], Failures(tmp_path / "failures")).missing == [job]


def test_the_frame_has_a_row_for_each_experiment_in_each_cell(tmp_path: Path) -> None:
    axes = {"gamma_l": [0.0, 0.05]}
    methods = ["deep_sad", "ssad_raw", "ocsvm_raw", "soft_boundary_svdd"]
    with planner(f"output_dir={tmp_path}") as made:
        asked = made.plan(small(axes=axes, methods=methods), {})
        study = small(axes={"gamma_l": [0.0, 0.05, 0.1]}, methods=methods, normal_classes=[0, 1])
        own_cells = made.cells(study)
    for number, job in enumerate(asked.unique):
        if "known_2" not in job.plan.run_dir.name:
            selection = {"selection": {"protocol": "test_subset"}} if "nus" in job.plan.method.arguments else {}
            finish(job, number / 1000, **selection)
    records = state_of(asked.unique, Failures(tmp_path / "none")).records
    frame = results_frame([asked, asked], records, study, own_cells)
    assert not frame.duplicated(["column", "variant", "gamma_l", "normal_class", "anomaly_class", "seed"]).any()
    sizes = frame.groupby(["column", "variant", "gamma_l"]).size().to_dict()
    # One normal class was requested; the whole study here has two, and its third gamma_l is not in this table.
    assert sizes == {
        ("deep_sad", "deep_sad", 0.0): 1,
        ("deep_sad", "deep_sad", 0.05): 9,
        ("ssad_raw", "ocsvm_raw", 0.0): 1,
        ("ssad_raw", "ssad_raw", 0.05): 9,
        ("ocsvm_raw", "ocsvm_raw", 0.0): 1,
        ("ocsvm_raw", "ocsvm_raw", 0.05): 1,
        **{("deep_svdd", f"soft_boundary_svdd, nu {nu}", g): 1 for nu in (0.01, 0.1) for g in (0.0, 0.05)},
    }
    whole = frame.groupby(["column", "variant", "gamma_l"])["paper_n"].unique().to_dict()
    assert {cell: counts.tolist() for cell, counts in whole.items()} == {cell: [2 * n] for cell, n in sizes.items()}
    # The digits' rates were chosen by test AUROC, and raw inputs have none.
    assert set(frame[frame.lr_from_test].variant) == {v for _, v, _ in sizes if not v.endswith("_raw")}
    missing = frame[frame.auroc.isna()]
    assert set(missing[missing.normal_class == "0"].anomaly_class) == {"2"}
    ocsvm = frame[(frame.column == "ocsvm_raw") & (frame.normal_class == "0")]
    assert ocsvm.experiment.nunique() == ocsvm.auroc.nunique() == 1
    borrowed = frame[frame.borrowed.notna()]
    assert set(borrowed.column) == {"ssad_raw"}
    assert set(borrowed.experiment) >= set(ocsvm.experiment)
    assert set(pd.unique(ocsvm.protocol)) == {"test_subset"}


@pytest.mark.parametrize(("prior", "informed"), [(0.05, True), ("uniform", False)])
def test_the_results_tell_settings_that_were_chosen_on_test_data(prior: float | str, informed: bool) -> None:
    with planner(f"method.anomaly_prior={prior}") as made:
        study = small(methods=["ss_dgm_m2"], normal_classes=["0"], axes={"gamma_l": [0.05]})
        frame = results_frame([made.plan(study, {})], {}, study, made.cells(study))
    assert set(frame.setting_from_test) == {informed}


def test_an_image_folder_is_listed_once_for_all_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_image_folder(tmp_path / "photos")
    walks = []
    scan = image_folder.scan
    monkeypatch.setattr(image_folder, "scan", lambda root: walks.append(root) or scan(root))
    words = (f"dataset.root={root}", "dataset.image_size=8", f"data_dir={tmp_path}", "dataset.name=photos")
    with planner(*words) as made:
        study = small(datasets=["image_folder"], normal_classes=["zebra"], methods=["deep_sad"])
        jobs = made.plan(study, {}).unique
        assert len(jobs) == 2
        assert len(walks) == 1
        (root / "train" / "zebra" / "000.png").unlink()
        assert {job.plan.run_dir for job in made.plan(study, {}).unique}.isdisjoint(job.plan.run_dir for job in jobs)
    assert {job.plan.dataset.name for job in jobs} == {"photos"}
