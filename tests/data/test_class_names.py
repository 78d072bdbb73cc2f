"""Class names are text, however Hydra, YAML or Unicode read them."""

import re
import shlex
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from planned import plan_of, problems_of
from studies import planner, study_of
from tiny_data import write_image_folder

from deepsad_pl.commands import main as cli
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.class_names import quote_names, read_alike, readings, resolve_class
from deepsad_pl.data.image_folder import class_names, image_folder_arrays, training_classes
from deepsad_pl.study.grid import Experiment
from deepsad_pl.study.requests import Memory, Request

PARSER = OverridesParser.create()
KEY = "scenario.normal_class"

# Names that some parser reads as a number, a bool or null, and similar names that none does.
WORDS = (
    *("0", "7", "10", "1_0", "1_1", "1_000", "1__0", "1_", "_1", "+1", "-1", "-0", "007", "010", "08", "0o7", "0x1F"),
    *("0x_", "0b1", "1:30", "1:30.5", "1.5", "1.50", "1.", ".5", "-.5", "1e3", "1E3", "1e+3", "1_0e1", "1.2.3", "1e3x"),
    *("true", "True", "tRuE", "false", "nan", "NaN", ".nan", "inf", "-inf", ".inf", "+.INF", "null", "Null", "nULL"),
    *("~", "yes", "No", "on", "OFF", "y", "n", "none", "2020-01-01", "cat", "x1", "a-b"),
)
names = st.sampled_from(WORDS) | st.text("0127_+-.:eExbonautrlsyNIE~", min_size=1, max_size=6)
several_names = st.lists(names, min_size=1, max_size=6, unique=True)


def read_by_hydra(text: str) -> Any:
    """The value of ``key=<text>``; the text itself if the grammar refuses it."""
    try:
        return PARSER.parse_override(f"x={text}").value()
    except (HydraException, ValueError):  # the latter for thousands of digits
        return text


def read_by_yaml(text: str) -> Any:
    """The value of ``- <text>``; the text itself if that is not a scalar."""
    try:
        value = OmegaConf.create(f"- {text}")[0]
    except Exception:  # each stage of the loader has its own errors
        return text
    return value if value is None or isinstance(value, int | float | str) else text


@settings(max_examples=100, deadline=None)
@example(" 10")
@example("1_0\t")
@example("9" * 5000)
@given(names)
def test_readings_agree_with_hydra_and_yaml(name: str) -> None:
    expected = {repr(value) for value in (read_by_hydra(name), read_by_yaml(name)) if not isinstance(value, str)}
    assert readings(name) == expected


@settings(max_examples=60, deadline=None)
@example(["1_0", "1_1", *(f"c{i}" for i in range(20))])
@example(["10", "1_0"])
@given(several_names)
def test_an_unquoted_name_means_its_class_or_is_refused(classes: list[str]) -> None:
    """Never another class: neither by index nor by another name."""
    for index, name in enumerate(classes):
        for value in (read_by_hydra(name), read_by_yaml(name)):
            try:
                assert resolve_class(value, classes) == index
            except DeepSADError:
                alike = [other for other in classes if repr(value) in readings(other)]
                assert value is None or len(alike) > 1


@settings(max_examples=50, deadline=None)
@given(several_names)
def test_a_quoted_name_means_its_class(classes: list[str]) -> None:
    for index, name in enumerate(classes):
        (word,) = shlex.split(f"""{KEY}='"{name}"'""")
        assert resolve_class(PARSER.parse_override(word).value(), classes) == index
        assert resolve_class(OmegaConf.create(f'- "{name}"')[0], classes) == index


def test_names_that_are_read_alike_are_refused_with_quotes_that_work() -> None:
    classes = ["a", "10", "1_0"]
    with pytest.raises(DeepSADError, match="10 could mean any of the classes 10, 1_0") as caught:
        resolve_class(10, classes)
    shown = re.search(r"you mean: (\S+), (\S+) on the command line, (\S+), (\S+) in YAML", str(caught.value))
    assert shown
    for index, shell, yaml in ((1, shown[1], shown[3]), (2, shown[2], shown[4])):
        for form in (f"{KEY}={shell}", f"{KEY}=[{shell}]", f"{KEY}={shell},a"):
            override = PARSER.parse_override(shlex.split(form)[0])
            value = next(override.sweep_iterator()) if override.is_sweep_override() else override.value()
            (text,) = [getattr(value, "text", value)] if not isinstance(value, list) else value
            assert resolve_class(text, classes) == index
        assert resolve_class(OmegaConf.create(f"- {yaml}")[0], classes) == index


@pytest.mark.parametrize(
    ("value", "classes"), [(True, ["true", "yes"]), (float("nan"), ["nan", ".nan"]), (7, ["7", "007"])]
)
def test_bools_nan_and_octals_may_have_equal_readings(value: object, classes: list[str]) -> None:
    assert read_alike(classes)
    with pytest.raises(DeepSADError, match="could mean any of the classes"):
        resolve_class(value, classes)


def test_one_true_and_one_point_zero_are_three_names() -> None:
    classes = ["1.0", "true", "1"]
    assert [resolve_class(value, classes) for value in (1, True, 1.0)] == [2, 1, 0]
    assert not read_alike(classes)


def test_null_is_not_a_class_unless_quoted() -> None:
    with pytest.raises(
        DeepSADError, match=r"""there is no class null.*to choose a class of that name, quote it: '"null"'"""
    ):
        resolve_class(None, ["cat", "null"])
    assert resolve_class("null", ["cat", "null"]) == 1


@pytest.mark.parametrize("wish", ["007", "1_0", "+1", "٣"])
def test_text_that_is_not_a_plain_number_is_not_an_index(wish: str) -> None:
    with pytest.raises(DeepSADError, match="there is no class"):
        resolve_class(wish, [f"c{i}" for i in range(20)])


def test_numbers_with_different_punctuation_are_different_names() -> None:
    for wish in ("1.5", "1_5", "1-5", 15, 1.5):
        with pytest.raises(DeepSADError, match="there is no class"):
            resolve_class(wish, ["1:5", "15.0", "1_5_0"])
    assert [resolve_class(wish, ["1e3", "TRUE", "a-b"]) for wish in ("1E3", "True", "A_B")] == [0, 1, 2]


def test_composed_and_decomposed_letters_are_one_name() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Öl") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for name in (composed, decomposed):
        for wish in (composed, decomposed, decomposed.lower()):
            assert resolve_class(wish, ["a", name]) == 1


# -- the command line


@settings(max_examples=60, deadline=None)
@given(st.lists(names, min_size=1, max_size=3), st.sampled_from(["{}", "[{}]", "[{}],7"]))
def test_the_command_line_keeps_names_as_text(elements: list[str], form: str) -> None:
    word = f"{KEY}={form.format(','.join(elements))}"
    try:
        before = PARSER.parse_override(word)
    except HydraException:
        assume(False)
    after = PARSER.parse_override(quote_names(word))

    def flat(override: Any) -> list[Any]:
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        return [getattr(v, "text", v) for value in values for v in (value if isinstance(value, list) else [value])]

    texts = [*elements, *(["7"] if form.endswith("7") else [])]
    for text, was, value in zip(texts, flat(before), flat(after), strict=True):
        index = isinstance(was, int) and not isinstance(was, bool) and str(was) == text
        assert value == (was if index or was is None or isinstance(was, str) else text)


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        (f"{KEY}= 1_0 , 1.50", f"{KEY}= '1_0' , '1.50'"),
        ("scenario.anomaly_class=[Öl,'1_1',\"Öl,1_2\",true]", "scenario.anomaly_class=['Öl','1_1',\"Öl,1_2\",'true']"),
        ("++study.normal_classes=[1_0]", "++study.normal_classes=['1_0']"),
        ("study.anomaly_classes=null", "study.anomaly_classes=null"),
        ("dataset.anomaly=[1_0,007,Öl]", "dataset.anomaly=['1_0',007,'Öl']"),
        ("dataset.name=1_0", "dataset.name=1_0"),
        (f"{KEY}=range(0,1_0)", f"{KEY}=range(0,1_0)"),
        ("scenario.k_l=1_0", "scenario.k_l=1_0"),
        ("-m", "-m"),
    ],
)
def test_only_names_are_quoted(word: str, quoted: str) -> None:
    assert quote_names(word) == quoted


NASTY = [*(f"1_{i}" for i in range(12)), "1.50", "1_000", "1e3", "007", "true", "nan", "null", "Öl"]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with one file each, never decoded. ``novel`` is only in ``test``; ``empty`` has no file."""
    root = tmp_path_factory.mktemp("images")
    for part in ("train", "test"):
        for name in (*NASTY, "novel", "empty"):
            (root / part / name).mkdir(parents=True)
            if name != "empty" and (part, name) != ("train", "novel"):
                (root / part / name / "0.png").write_bytes(name.encode())
    return root


def words_of(root: Path) -> list[str]:
    return ["dataset=image_folder", f"dataset.root={root}", "dataset.image_size=8", f"data_dir={root / 'data'}"]


@pytest.mark.parametrize("wish", [name for name in NASTY if name not in ("null", "Öl")])
def test_a_plan_has_the_named_class(nasty: Path, wish: str) -> None:
    plan = plan_of(*words_of(nasty), f"{KEY}={wish}", "scenario.gamma_l=0")
    assert [plan.classes[i] for i in plan.scenario.normal_classes] == [wish]


def test_train_uses_the_typed_name(nasty: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An unknown name is not an index, although Hydra reads it as 1."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *words_of(nasty), f"{KEY}=1_0,+1,1_2_"])
    with pytest.raises(SystemExit):
        cli.train()
    told = capsys.readouterr().err
    assert "2 problems" in told
    assert "there is no class '1_2_'" in told
    assert "there is no class '+1'" in told


def test_a_study_uses_the_typed_names(nasty: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [
        "sweep.py", "study=labeled_anomalies", *words_of(nasty), "method=deep_sad", "study.axes.gamma_l=[0.05]",
        "study.normal_classes=[1_0,true]", "study.anomaly_classes=[007,nan,Öl]", f"output_dir={tmp_path}",
        "dry_run=true",
    ])  # fmt: skip
    planned = []
    monkeypatch.setattr("deepsad_pl.study.study.show_state", lambda name, state, *_, **__: planned.append(state))
    cli.sweep()
    (state,) = planned
    plans = [job.plan for job in state.missing]
    assert [(p.classes[p.scenario.normal_classes[0]], p.classes[p.scenario.known_classes[0]]) for p in plans] == [
        (normal, known) for normal in ("1_0", "true") for known in ("007", "nan", "Öl")
    ]


# -- studies


@settings(max_examples=60, deadline=None)
@given(st.lists(names | st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1), min_size=2, unique=True))
def test_the_overrides_of_an_experiment_mean_its_classes(classes: list[str]) -> None:
    assume("???" not in classes)  # OmegaConf's own word for a missing value
    for index, name in enumerate(classes):
        experiment = Experiment("digits", "deep_sad", ((KEY, name),), read_alike(classes))
        value = PARSER.parse_override(experiment.overrides()[-1]).value()
        assert resolve_class(OmegaConf.create({"x": value}).x, classes) == index


def test_unambiguous_numbers_are_written_without_quotes() -> None:
    settings = ((KEY, "10"), ("scenario.anomaly_class", "1_0"))
    assert Experiment("d", "m", settings).overrides()[2:] == [f"{KEY}=10", "scenario.anomaly_class='1_0'"]
    assert Experiment("d", "m", settings, quote=True).overrides()[2:] == [f"{KEY}='10'", "scenario.anomaly_class='1_0'"]


def test_a_study_goes_through_the_classes_of_the_training_data(nasty: Path) -> None:
    fields = {"datasets": ["image_folder"], "methods": ["deep_sad"], "axes": {"gamma_l": [0.05]}}
    with planner(*words_of(nasty)[1:]) as made:
        cells = made.cells(study_of("labeled_anomalies", **fields))
        assert {cell.normal_class for cell in cells} == {cell.anomaly_class for cell in cells} == set(NASTY)
        for key in ("normal_classes", "anomaly_classes"):
            with pytest.raises(DeepSADError, match=f"study.{key} .*no row of novel; choose among .*1_0"):
                made.cells(study_of("labeled_anomalies", **fields, **{key: ["novel", "1_0"]}))


def test_requests_keep_names_and_numbers_apart(tmp_path: Path) -> None:
    requests = [Request((), {"normal_classes": [name]}) for name in ("1_0", "10", 10)]
    for request in requests:
        Memory(tmp_path).add(request)
    assert Memory(tmp_path).all() == requests
    assert [type(r.narrowed["normal_classes"][0]) for r in Memory(tmp_path).all()] == [str, str, int]


# -- folders


def test_training_classes_have_an_image(nasty: Path) -> None:
    assert set(class_names(nasty)) == {*NASTY, "novel", "empty"}
    assert training_classes(nasty) == [name for name in class_names(nasty) if name in NASTY]


def test_classes_found_only_in_test_are_never_known(nasty: Path) -> None:
    drawn = set()
    for seed in range(8):
        plan = plan_of(*words_of(nasty), f"{KEY}=1_0", "scenario.anomaly_class=null", "scenario.k_l=9", f"seed={seed}")
        drawn |= {plan.classes[i] for i in plan.scenario.known_classes}
    assert drawn == {*NASTY} - {"1_0"}


@pytest.mark.parametrize("key", ["normal_class", "anomaly_class"])
@pytest.mark.parametrize("name", ["novel", "empty"])
def test_a_class_without_training_images_is_refused_by_name(nasty: Path, key: str, name: str) -> None:
    asked = {"normal_class": "1_0", "anomaly_class": "1_1", key: name}
    (problem,) = problems_of(*words_of(nasty), *(f"scenario.{k}={value}" for k, value in asked.items()))
    assert f"scenario.{key} is '{name}', but the training data have no row of it" in problem
    assert "007, 1.50, 1_0" in problem


def test_where_nothing_can_be_labeled_the_error_gives_the_way_out(tmp_path: Path) -> None:
    for folder in ("train/good", "test/good", "test/bent"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.png").write_bytes(b"x")
    for anomaly in ("null", "bent", "[bent]"):
        (problem,) = problems_of(*words_of(tmp_path), f"{KEY}=good", f"scenario.anomaly_class={anomaly}")
        assert "no anomaly class" in problem
        assert "use scenario.gamma_l=0" in problem
    assert plan_of(*words_of(tmp_path), f"{KEY}=good", "scenario.gamma_l=0").scenario.known_classes == ()


def test_one_class_may_have_folders_spelled_in_two_unicode_forms(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Öl") for form in ("NFC", "NFD"))
    write_image_folder(tmp_path, {"train": {decomposed: 3, "b": 2}, "test": {composed: 1, "b": 2}})
    assert sorted(class_names(tmp_path)) == sorted(training_classes(tmp_path)) == ["b", composed]
    _, labels_train, _, labels_test = image_folder_arrays(tmp_path, tmp_path / "cache", image_size=(4, 4), channels=1)
    named = class_names(tmp_path)
    assert [named[i] for i in labels_train].count(composed) == 3
    assert [named[i] for i in labels_test].count(composed) == 1

    (tmp_path / "test" / decomposed).mkdir()
    with pytest.raises(DeepSADError, match=r"two folders for the class Öl.*'\\xd6l'.*move the files"):
        class_names(tmp_path)
