"""Words that are often typed, but are not how it is written, are answered by the right command."""

import shlex
from pathlib import Path

import planned
import pytest
from command_lines import problems_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from deepsad_pl.compose.override_text import home_expanded
from deepsad_pl.compose.way_out import parse_problem, way_out


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=0-9", "; for each number from 0 to 9: python train.py -m 'seed=range(0,10)'"),
        ("trainer.devices=auto", "or give their number: trainer=ddp trainer.devices=2"),
        (
            "study=classic",
            "train.py has no setting study; it belongs to python sweep.py: python sweep.py study=classic",
        ),
        ("seed=0,1", "; for an experiment of each, run python train.py -m seed=0,1"),
        ("seed=range(0,3)", "; for an experiment of each, run python train.py -m 'seed=range(0,3)'"),
        ("hydra.job.chdir=true", "hydra.job.chdir is True, but the package makes and names the run folders itself; "),
        ("hydra.run.dir=/x", "leave it out, and choose their place with output_dir=/x"),
        ("scenario.normal_class=caf(e)", """; if the value is text, quote it: "scenario.normal_class='caf(e)'\""""),
        ("trainer.callbacks=5", "; give a list, such as 'trainer.callbacks=[5]'"),
    ],
)
def test_the_answer_has_the_right_command(word: str, told: str) -> None:
    assert told in "\n".join(problems_of(word))


def test_the_answer_to_one_number_of_epochs_has_both_lists() -> None:
    assert planned.problems_of("method.epochs=10") == [
        "method.lr has 2 phases, but method.epochs has 1; both need the same number, at least 1, such as "
        "'method.lr=[0.001]' 'method.epochs=[10]'",
        "method.epochs is 10; it must be a list, such as 'method.epochs=[10]'",
    ]


@pytest.mark.parametrize("text", ["caf(e)", "a=b", "it's", "a{b", "100%(x)", 'say "a(b)"', "cost $5 (net)", "a!(b)"])
def test_the_quotes_that_are_named_make_the_value_text_again(text: str) -> None:
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([f"scenario.normal_class={text}"])
    typed = parse_problem(caught.value).rpartition("quote it: ")[2]
    (word,) = shlex.split(typed)
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.value() == text


def test_a_range_is_written_out_where_a_list_is_wanted() -> None:
    assert way_out("study.seeds", "0-3", wants_list=True) == "; give a list, such as 'study.seeds=[0,1,2,3]'"


def test_no_way_out_is_made_up() -> None:
    assert way_out("seed", "x") == way_out("seed", 1.5) == way_out("scenario.gamma_l", "9-") == ""


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("output_dir=~/runs", "output_dir='HOME/runs'"),
        ("output_dir=~", "output_dir='HOME'"),
        ("dataset.path=[~/a.csv,b.csv,~/c d.csv]", "dataset.path=['HOME/a.csv',b.csv,'HOME/c d.csv']"),
        ("output_dir=a,~/b", "output_dir=a,'HOME/b'"),
        ("output_dir='~/runs'", "output_dir='~/runs'"),
        ("~scenario.labels", "~scenario.labels"),
    ],
)
def test_a_home_folder_is_expanded(word: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = home_expanded(word)
    assert found == expected.replace("HOME", str(tmp_path))
    OverridesParser.create().parse_overrides([found])
