"""Two gloo ranks take the same steps as one process and score every test sample once."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# 25 does not divide 112, and the ranks' shares of a batch are unequal.
ARGUMENTS = (
    "logger=csv",
    "pretrain.batch_size=25",
    "method.batch_size=25",
    "pretrain.epochs=[4]",
    "pretrain.lr=[1e-3]",
    "method.epochs=[4]",
    "method.lr=[1e-3]",
    "scenario.gamma_n=0.1",
)


def losses_of(folder: Path) -> list[tuple[str, str, str, float]]:
    with (folder / "losses.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return [(phase, epoch, step, float(loss)) for phase, epoch, step, loss in rows]


def scores_of(folder: Path) -> list[list[str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("deep_sad", ("method.eta_scale=initial",)),
        pytest.param("soft_boundary_svdd", (), marks=pytest.mark.slow),
    ],
)
def test_two_ranks_equal_one_process(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, method: str, more: tuple[str, ...]
) -> None:
    for trainer, arguments in (("cpu", ()), ("ddp", ("trainer.devices=2", "trainer.accelerator=cpu"))):
        done = cli(
            "train.py",
            f"trainer={trainer}",
            f"method={method}",
            f"output_dir={tmp_path / trainer}",
            *arguments,
            *more,
            *ARGUMENTS,
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    (one,), (two,) = ((tmp_path / t).glob(f"digits/{method}/*") for t in ("cpu", "ddp"))
    assert one.name == two.name

    single, double = losses_of(one), losses_of(two)
    assert len(single) == 40
    assert [row[:3] for row in double] == [row[:3] for row in single]
    assert [row[3] for row in double] == pytest.approx([row[3] for row in single], rel=1e-5)

    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (one, two)]
    assert states[0].keys() == states[1].keys()
    for key in states[0].keys() & {"center", "eta_unit"}:
        assert torch.allclose(states[1][key], states[0][key], rtol=1e-5, atol=1e-5)

    mine, theirs = scores_of(one), scores_of(two)
    assert [row[:2] for row in theirs] == [row[:2] for row in mine]
    assert [int(row[0]) for row in theirs] == list(range(719))
    assert [float(row[2]) for row in theirs] == pytest.approx([float(row[2]) for row in mine], rel=1e-4)


@pytest.mark.slow
def test_a_generative_model_runs_on_two_ranks(
    cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    arguments = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=2", "logger=none")
    done = cli("train.py", "method=ss_dgm_m1m2", "scenario.gamma_l=0.02", "method.batch_size=8", *arguments)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs").glob("digits/ss_dgm_m1m2/*")
    assert len(scores_of(run_dir)) == 719


def test_ddp_in_a_multirun_is_refused(cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = cli("train.py", "-m", "seed=0,1", "trainer=ddp", "trainer.accelerator=cpu")
    assert done.returncode != 0
    assert "spawns its own ranks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
