"""Flags may stand anywhere on the command line; what is no flag and no setting is answered in one sentence."""

import pytest

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.compose.flags import flags_first


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("seed=1 -m dataset=toy", "-m seed=1 dataset=toy"),
        ("seed=1 -m", "-m seed=1"),
        ("a=1 --cfg job b=2 --config-dir /x c=3", "--cfg job --config-dir /x a=1 b=2 c=3"),
        ("--config-dir a=1 a=1 -m b=2", "--config-dir a=1 -m a=1 b=2"),
        ("seed=-1 ~dataset.x -h", "-h seed=-1 ~dataset.x"),
        ("seed=1 -m -m", "-m -m seed=1"),
        ("", ""),
    ],
)
def test_flags_come_first_and_the_rest_keeps_its_order(words: str, expected: str) -> None:
    assert flags_first(words.split(), "train.py") == expected.split()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seed", "1"], "there is no flag --seed; settings have no dashes: seed=1"),
        (["dataset=toy", "--seed=a b", "-m"], "there is no flag --seed; settings have no dashes: 'seed=a b'"),
        (["-m", "seed=1", "-x"], "there is no flag -x; python sweep.py --help shows the flags"),
        (["--config-dir"], "expected one argument; python sweep.py --help shows the flags"),
        (["-c", "foo"], "invalid choice: 'foo'"),
        (["-m", "--cfg", "job"], "--cfg shows one configuration; leave out -m, and give each setting one value"),
        (["--info", "all", "-m"], "--info shows one configuration; leave out -m"),
        (["seed=1", "-mr"], "-r and -m exclude each other; give one of them"),
        (["--resolve", "seed=1"], "--resolve belongs to --cfg; add --cfg job, or leave it out"),
        (["seed", "=", "1"], "seed 1 is not a setting, such as seed=1; leave no spaces around ="),
        (["seed=1", ""], "'' is not a setting, such as seed=1; "),
    ],
)
def test_what_is_neither_is_one_sentence(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeepSADError) as caught:
        flags_first(words, "sweep.py")
    (problem,) = caught.value.problems
    assert told in problem
    assert capsys.readouterr() == ("", "")
