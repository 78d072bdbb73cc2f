"""Undeclared settings are refused before any work, wherever they come from, with the nearest existing name."""

import copy
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_lines import loader, problems_of
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from planned import composed
from studies import fields_of, planner, study_of

from deepsad_pl.commands.main import CONF
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.suggestions import nearest
from deepsad_pl.compose.composer import Composer
from deepsad_pl.compose.declared import (
    declared_keys,
    removed_settings,
    setting_names,
    to_settings,
    undeclared_settings,
    unknown_setting,
)
from deepsad_pl.study.command_line import hold_back
from deepsad_pl.study.study import ACTIONS, StudyRun

CLI = Callable[..., subprocess.CompletedProcess[str]]
CHOICES = [(), ("dataset=cardio", "method=ssad_hybrid"), ("method=ss_dgm_m1m2", "logger=csv")]


def accepted(*words: str, name: str = "train", config_dir: Path | None = None) -> DictConfig:
    return loader(config_dir).load_configuration(name, list(words), RunMode.RUN)


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    yield Composer(loader())


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    files = {
        "experiment/good": "# @package _global_\ndefaults: [{override /dataset: cardio}]\nscenario: {gamma_l: 0.02}\n",
        "experiment/bad": "# @package _global_\nsede: 5\nscenario:\n  gama_l: 0.02\nmethod:\n  nonsense: {a: 1}\n",
        "dataset/own": "defaults:\n  - cardio\nname: own\nclases: [a, b]\nnetwork:\n  unit: [1]\n",
    }
    for file, text in files.items():
        path = folder / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


WORDS = {
    "normal_class=3": "there is no setting normal_class; did you mean scenario.normal_class?",
    "+normal_class=3": "there is no setting normal_class; did you mean scenario.normal_class?",
    "++normal_class=3": "there is no setting normal_class; did you mean scenario.normal_class?",
    "~normal_class": "there is no setting normal_class; did you mean scenario.normal_class?",
    "+nonsense=1": "there is no setting nonsense; python train.py --help lists all settings",
    "+nonsense={seed: 1}": "there is no setting nonsense; python train.py --help lists all settings",
    "+scenario.gama_l=0.2": "there is no setting scenario.gama_l; did you mean scenario.gamma_l?",
    "scenaro.gamma_l=0.2": "there is no setting scenaro.gamma_l; did you mean scenario.gamma_l?",
    "scenario_gamma_l=0.2": "there is no setting scenario_gamma_l; did you mean scenario.gamma_l?",
    "+trainer.limit_train_batches=1": "there is no setting trainer.limit_train_batches; python train.py --help",
    "+trainer.max_epoch.s=1": "there is no setting trainer.max_epoch; did you mean trainer.max_epochs?",
    "lr=[1]": "there is no setting lr; did you mean dataset.lr, method.lr, pretrain.lr or recipe.lr?",
    "metod.lr=[1]": "there is no setting metod.lr; did you mean method.lr?",
    "+method.foo=1": "there is no setting method.foo; python train.py --help lists all settings",
    "method.kappa=1": "there is no setting method.kappa with method=deep_sad; leave it out or choose a method that has",
    "dataset.network.units=[1]": "there is no setting dataset.network.units with dataset=digits; ",
    "+dataset.network.kernel=3": "there is no setting dataset.network.kernel; did you mean dataset.network.kernel_size",
    "datset=mnist": "there is no setting datset; did you mean dataset?",
    "dry_run=true": "train.py has no setting dry_run; it belongs to python sweep.py",
    "~seed": "~seed removes the setting seed, which every experiment needs; set a value instead",
    "~trainer.threads": "~trainer.threads removes the setting trainer.threads, ",
    "+seed=1": "+seed=1: the setting seed already exists; leave out the +",
    "seed=x": "seed=x: Value 'x' of type 'str' could not be converted to Integer",
}
CHOSEN = {
    "method=deepsad": "method has no option deepsad; did you mean deep_sad? (its options: autoencoder, ",
    "pretrain=null": "pretrain has no option null (its options: autoencoder, none, vae)",
    "dataset=[digits,mnist]": "dataset=[digits,mnist]: choose one dataset, ",
    "study=classic": "train.py has no setting study; it belongs to python sweep.py",
}


def test_a_setting_of_another_scenario_is_told_with_the_scenario_that_lacks_it() -> None:
    way_out = "leave it out or choose a scenario that has it"
    assert problems_of("scenario=given", "dataset=table", "dataset.path=parts.csv", "scenario.gamma_l=0.05")[0] == (
        f"there is no setting scenario.gamma_l with scenario=given; {way_out}"
    )
    assert problems_of("scenario.selection=holdout")[0] == (
        f"there is no setting scenario.selection with the chosen scenario; {way_out}"
    )


def test_each_unknown_word_is_one_sentence_and_all_are_reported_at_once() -> None:
    problems = problems_of(*WORDS, *CHOSEN, "logger.mode=z", "trainer.precision=8")
    told = [*list(CHOSEN.values())[:3], CHOSEN["study=classic"], *WORDS.values()]
    told += ["trainer.precision is '8'", "logger.mode is 'z'"]
    # The options that could have these were not found.
    told = [start for start in told if " with method=" not in start and " with dataset=" not in start]
    for problem, start in zip(problems, dict.fromkeys(told), strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        *(
            (word, WORDS[word])
            for word in ("normal_class=3", "+nonsense=1", "++normal_class=3", "~normal_class", "~seed")
        ),
        ("pretrain=null", CHOSEN["pretrain=null"]),
        ("study=classic", CHOSEN["study=classic"]),
        (
            "+study=classic",
            "train.py has no setting study, which a config file sets; it belongs to python sweep.py",
        ),
        ("+dataset@other=digits", "there is no setting other, which a config file sets; "),
        ("hydra/launcher=stackd", "hydra/launcher has no option stackd; did you mean stacked? (its options: "),
        ("+scenario={gama_l: 0.2}", "there is no setting scenario.gama_l; did you mean scenario.gamma_l?"),
        ("seed=a=b", "seed=a=b: mismatched input '='"),
    ],
)
def test_a_single_unknown_word_is_refused_too(word: str, told: str) -> None:
    (problem,) = problems_of(word)
    assert problem.startswith(told)


def test_a_missing_value_is_reported_with_the_key_that_was_meant() -> None:
    problems = problems_of("dataset=image_folder", "dataset.rot=photos")
    assert problems[0] == "there is no setting dataset.rot; did you mean dataset.root?"
    assert problems[1].startswith("dataset.root is not set")


@pytest.mark.parametrize(
    "words",
    [
        ("++scenario.gamma_l=0.2",),
        ("scenario.gamma_l=0", "method.eta=2"),
        ("trainer.max_epochs=null", "scenario.anomaly_class=null"),
        ("hydra.verbose=true", "+hydra.job.env_set.nonsense=1"),
        ("~logger", "+logger=csv"),
        ("recipe.lr.0=0.5",),
        ("scenario={gamma_l: 0.2}",),
    ],
)
def test_declared_settings_are_accepted_in_every_form(words: tuple[str, ...]) -> None:
    assert undeclared_settings(accepted(*words)) == []


def test_an_open_mapping_accepts_new_names_with_a_plus() -> None:
    added = (
        "study=labeled_anomalies",
        "+study.axes.k_l=[1,2]",
        "+study.keys.k_l=scenario.k_l",
        "+study.depends.k_l=all",
    )
    assert list(accepted(*added, name="sweep").study.axes) == ["gamma_l", "k_l"]
    (problem,) = problems_of("study=labeled_anomalies", "study.axes.gama_l=[0.1]", name="sweep")
    assert problem == "there is no setting study.axes.gama_l; did you mean study.axes.gamma_l?"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("study.axs.k=[0]", "there is no setting study.axs; did you mean study.axes?"),
        ("+study.datset=[digits]", "there is no setting study.datset; did you mean study.datasets?"),
        ("+nonsense=1", "there is no setting nonsense; python sweep.py --help lists all settings"),
        ("dryrun=true", "there is no setting dryrun; did you mean dry_run?"),
        ("study=clasic", "study has no option clasic; did you mean classic? (its options: adbench, anomaly_classes, "),
    ],
)
def test_a_study_checks_its_settings(word: str, told: str) -> None:
    words = [word] if word.startswith("study=") else ["study=classic", word]
    (problem,) = problems_of(*words, name="sweep", mode=RunMode.MULTIRUN)
    assert problem.startswith(told)


@pytest.mark.parametrize("methods", ["ss_dgm_m2,ss_dgm_m1m2", "glob(ss_dgm_*)", "choice(ss_dgm_m1m2,ss_dgm_m2)"])
def test_a_setting_of_all_swept_options_is_accepted(methods: str) -> None:
    words = [f"method={methods}", "method.anomaly_prior=uniform", "seed=0,1"]
    cfg = loader().load_configuration("train", words, RunMode.MULTIRUN)
    assert cfg.hydra.overrides.task == words
    assert cfg.method.anomaly_prior == "uniform"
    (problem,) = problems_of(words[0], "method.eta=2", mode=RunMode.MULTIRUN)
    assert re.match(r"there is no setting method\.eta with method=ss_dgm_m\w+; leave it out or choose", problem)


def test_a_study_keeps_its_own_entries_of_data_sets() -> None:
    """Entries of one of several tables are no options of the group dataset, and the order of data sets is free."""
    for words in (["dataset=adbench/cardio,adbench/thyroid"], ["dataset=table,cardio", "scenario.gamma_l=0.01"]):
        cfg = loader().load_configuration("sweep", ["study=adbench", *words], RunMode.MULTIRUN)
        assert cfg.hydra.overrides.task == ["study=adbench", *words]


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("dataset=adbench/cardio", "such entries are for a study; write dataset=adbench dataset.table=cardio"),
        ("dataset=table/a/b.csv", "such entries are for a study; write dataset=table dataset.path='a/b.csv'"),
        (
            "dataset=./parts.csv",
            "for data of your own, write dataset=table dataset.path=<file> or dataset=image_folder ",
        ),
        ("dataset=parts.csv", "for data of your own, write dataset=table dataset.path=<file> or dataset=image_folder "),
        ("dataset=mnist/3", "for data of your own, write dataset=table dataset.path=<file> or dataset=image_folder "),
        ("method=deep/sad", "did you mean deep_sad?"),
    ],
)
def test_a_path_or_entry_that_is_no_option_is_answered_with_what_to_write(
    word: str, instead: str, mode: RunMode
) -> None:
    group, _, value = word.partition("=")
    (problem,) = problems_of(word, mode=mode)
    assert problem.startswith(f"{group} has no option {value}; {instead}")


def test_an_option_in_a_folder_of_its_group_is_found(tmp_path: Path) -> None:
    (tmp_path / "method" / "mine").mkdir(parents=True)
    (tmp_path / "method" / "mine" / "slow.yaml").write_text(
        "# @package method\ndefaults: [/method/deep_sad@_here_]\neta: 3.0\n"
    )
    words = [f"hydra.searchpath=[{tmp_path}]", "method=mine/slow"]
    assert loader().load_configuration("train", words, RunMode.RUN).method.eta == 3
    (problem,) = problems_of(*words[:1], "method=mine/fast")
    assert problem.startswith("method has no option mine/fast")


def test_settings_of_an_option_that_does_not_exist_are_not_judged() -> None:
    for words in (
        ["method=mtrees", "method.neighbors=3"],
        ["dataset=tabel", "dataset.path=a.csv", "threshold.alpha=0.1"],
    ):
        (problem,) = problems_of(*words)
        assert "has no option" in problem
    told = problems_of("method=ss_dgm_m2,ss_dgm_m1m2", "method.anomaly_prior=uniform")
    assert len(told) == 1 and "python train.py -m" in told[0]


def test_a_swept_addition_is_not_called_there_already() -> None:
    words = ("+trainer.extra.gradient_clip_val=1,2", "method.etta=3")
    (problem,) = problems_of(*words, mode=RunMode.MULTIRUN)
    assert problem.startswith("there is no setting method.etta")


def test_a_sweep_checks_the_types_of_its_choices() -> None:
    cfg = accepted("dataset=cardio", "method=ssad_raw", name="sweep")
    assert undeclared_settings(cfg) == []
    assert {"dataset.scaling", "method.kappa", "study", "dry_run"} < set(setting_names(cfg))


def test_own_config_files_work(config_dir: Path) -> None:
    cfg = accepted("+experiment=good", "seed=3", config_dir=config_dir)
    assert (cfg.dataset.name, cfg.scenario.gamma_l, cfg.seed) == ("cardio", 0.02, 3)


def test_unknown_keys_of_config_files_are_refused_by_their_full_names(config_dir: Path) -> None:
    assert sorted(problems_of("+experiment=bad", config_dir=config_dir)) == [
        "there is no setting method.nonsense, which a config file sets; python train.py --help lists all settings",
        "there is no setting scenario.gama_l, which a config file sets; did you mean scenario.gamma_l?",
        "there is no setting sede, which a config file sets; did you mean seed?",
    ]
    assert sorted(problems_of("dataset=own", "+nonsense=1", config_dir=config_dir)) == [
        "there is no setting dataset.clases, which a config file sets; did you mean dataset.classes?",
        "there is no setting dataset.network.unit, which a config file sets; did you mean dataset.network.units?",
        "there is no setting nonsense; python train.py --help lists all settings",
    ]


def test_files_in_hydras_search_path_are_found_by_all_commands(config_dir: Path) -> None:
    word = f"hydra.searchpath=['file://{config_dir}']"
    jobs = Composer(loader(), "train", [word])
    assert (
        jobs.settings(["+experiment=good", "seed=3"])["scenario"]["gamma_l"]
        == accepted(word, "+experiment=good").scenario.gamma_l
    )
    with pytest.raises(DeepSADError, match=r"^experiment has no option god; did you mean good\?"):
        jobs.settings(["+experiment=god"])
    assert len(problems_of(word, "+experiment=bad")) == 3


def test_own_groups_are_suggested(config_dir: Path) -> None:
    assert problems_of("+experiment=god", config_dir=config_dir) == [
        "experiment has no option god; did you mean good? (its options: bad, good, paper_mnist, quick_digits)"
    ]
    assert problems_of("+expriment=good", config_dir=config_dir) == [
        "there is no setting expriment; did you mean experiment?"
    ]
    assert problems_of("experiment=good", config_dir=config_dir) == [
        "experiment=good replaces a chosen experiment, but none is chosen; write +experiment=good to add it"
    ]


@pytest.mark.parametrize("choices", CHOICES)
def test_an_extra_key_is_reported_at_every_depth(choices: tuple[str, ...]) -> None:
    cfg = composed(*choices)
    places = ["", *(name for name in setting_names(cfg) if OmegaConf.is_dict(OmegaConf.select(cfg, name)))]
    # The classes of Lightning's Trainer and of a logger declare their arguments; any node may have facts (``about``).
    # The user chooses the names of metrics.
    places = [
        place for place in places if place not in ("trainer.extra", "logger.csv", "metrics") and ".about." not in place
    ]
    assert "dataset.network" in places
    for place in places:
        changed = copy.deepcopy(cfg)
        node = OmegaConf.select(changed, place) if place else changed
        with open_dict(node):
            node["surplus"] = {"seed": 1}
        name = f"{place}.surplus".lstrip(".")
        assert undeclared_settings(changed) == [name]
        with pytest.raises(DeepSADError, match=rf"^there is no setting {name}; "):
            to_settings(changed)


@pytest.mark.parametrize("choices", CHOICES)
def test_a_missing_key_is_reported_at_every_depth(choices: tuple[str, ...]) -> None:
    cfg = composed(*choices)
    assert removed_settings(cfg) == []
    for name in setting_names(cfg):
        if name.startswith("logger.csv") or "about" in name.split("."):  # which may be left out
            continue
        changed = copy.deepcopy(cfg)
        above, _, last = name.rpartition(".")
        node = OmegaConf.select(changed, above) if above else changed
        assert last in (declared_keys(node, above) or ())
        with open_dict(node):
            del node[last]
        assert removed_settings(changed) == [name]


@settings(deadline=None)
@given(st.data())
def test_the_intended_name_is_among_the_suggestions(data: st.DataObject) -> None:
    cfg = composed(*data.draw(st.sampled_from(CHOICES)))
    names = setting_names(cfg)
    name = data.draw(st.sampled_from([name for name in names if len(name.rpartition(".")[2]) >= 4]))
    group, _, last = name.rpartition(".")
    at = data.draw(st.integers(0, len(last) - 1))
    wrong = data.draw(st.sampled_from([last[:at] + last[at + 1 :], last[:at] + "x" + last[at:]]))
    key = f"{group}.{wrong}".lstrip(".")
    if key not in names:
        assert name in nearest(key, names)
        assert unknown_setting(key, cfg).startswith(f"there is no setting {key}")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("a.bc", ["a.bcd"]),
        ("bcd", ["a.bcd", "b.bcd"]),
        ("b.bbcd", ["b.bcd"]),
        ("a_bcd", ["a.bcd"]),
        ("A.BCD", ["a.bcd"]),
        ("zzz", []),
    ],
)
def test_suggestions_are_similar_in_the_last_part_or_as_a_whole(key: str, near: list[str]) -> None:
    assert nearest(key, ["a", "a.bcd", "b.bcd", "q"]) == near


def test_configurations_composed_elsewhere_are_checked_too() -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["+nonsense=1", "+scenario.gama_l=1", "~force", "dataset=image_folder"])
    with pytest.raises(DeepSADError) as caught:
        to_settings(cfg)
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "there is no setting scenario.gama_l",
        "there is no setting nonsense",
        "~force removes the setting force, which every experiment needs",
        "dataset.root is not set",
    ]


@pytest.mark.parametrize(("word", "told"), [("~trainer", "trainer is not set"), ("~dataset", "dataset is not set")])
def test_a_removed_group_is_required(word: str, told: str, composer: Composer) -> None:
    with pytest.raises(DeepSADError, match=rf"^{told}"):
        composer.settings([word])


def test_an_interpolation_of_an_unknown_key_is_one_sentence(composer: Composer) -> None:
    with pytest.raises(DeepSADError, match=r"^scenario.gamma_l: Interpolation key 'nowhere' not found$"):
        composer.settings(["scenario.gamma_l=${nowhere}"])


def test_all_problems_of_a_sweeps_job_are_reported(composer: Composer) -> None:
    with pytest.raises(DeepSADError) as caught:
        composer.plan(["dataset=cardio", "+nonsense=1", "sede=1", "method.eta=0", "seed=1"])
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "there is no setting nonsense",
        "there is no setting sede",
        "method.eta is 0.0",
    ]
    assert composer.plan(["dataset=cardio", "seed=1"]).seed == 1


def told_by(*passed_on: str, **changed: object) -> list[str]:
    fields = {"datasets": ["digits", "cardio"], "methods": ["deep_sad", "ssad_raw"], "normal_classes": [0], **changed}
    with planner(*passed_on) as made, pytest.raises(DeepSADError) as caught:
        made.check_settings(study_of("labeled_anomalies", **fields))
    return caught.value.problems


def test_a_study_passes_on_only_settings_that_an_experiment_has() -> None:
    names = "none of the methods deep_sad, ssad_raw has"
    assert told_by("+method.foo=1", "method.centr_from=all", "++normal_class=1", "dataset.scaling=minmax") == [
        f"+method.foo=1: {names} method.foo; leave it out or choose a method that has it",
        f"method.centr_from=all: {names} method.centr_from; did you mean method.center_from?",
        f"++normal_class=1: {names} normal_class; did you mean scenario.normal_class?",
    ]


def test_a_study_names_only_settings_that_exist() -> None:
    assert told_by(
        fixed={"scenario.gama_p": 0.1, "scenario.k_l": 1},
        keys={"gamma_l": "scenario.gamma_x"},
        variants={"ssad_raw": {"method.kapa": [1]}, "ocsvm_raw": {"method.nonsense": [1]}},
    ) == [
        "study=labeled_anomalies sets scenario.gama_p, which none of its methods has; did you mean scenario.gamma_p?",
        "study=labeled_anomalies sets scenario.gamma_x, which none of its methods has; did you mean scenario.gamma_e, "
        "scenario.gamma_l, scenario.gamma_n or scenario.gamma_p?",
        "study=labeled_anomalies sets method.kapa, which none of its methods has; did you mean method.kappa?",
    ]


def test_a_study_that_only_reports_refuses_unknown_words_too(tmp_path: Path) -> None:
    fields = {**fields_of("eta"), "datasets": ["digits"]}
    run = StudyRun(
        asked=fields,
        whole=fields,
        arguments=["+method.center=1"],
        composer=Composer(loader()),
        output_dir=str(tmp_path),
        processes=1,
        tasks=None,
        launch=lambda jobs: [],
    )
    for action in set(ACTIONS) - {"forget"}:
        with pytest.raises(DeepSADError, match=r"^\+method.center=1: .* did you mean method.center_from\?$"):
            run.act(action, dry_run=False)
    assert not any(tmp_path.iterdir())


def test_a_request_that_an_earlier_version_accepted_can_be_forgotten() -> None:
    words = ["study=eta", "+nonsense=1", "output_dir=x"]
    assert hold_back([*words, "action=forget"]) == (["study=eta", "output_dir=x", "action=forget"], ["+nonsense=1"])
    assert hold_back(words) == (words, [])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            ("train.py", "+nonsense=1", "normal_class=3", "--cfg", "job"),
            ["no setting nonsense", "scenario.normal_class?"],
        ),
        (("sweep.py", "study=classic", "+nonsense=1", "dry_run=true"), ["no setting nonsense"]),
    ],
)
def test_every_command_refuses_before_any_work(
    cli: CLI, tmp_path: Path, command: tuple[str, ...], told: list[str]
) -> None:
    done = cli(*command)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    for part in told:
        assert part in text
    assert "Traceback" not in text
    assert "To append to your config" not in text
    assert not any(tmp_path.iterdir())
