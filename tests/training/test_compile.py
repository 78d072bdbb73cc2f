"""trainer.compile and trainer.precision: the same training for every deep method, or an error that says why not."""

import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import METHODS, TYPICAL, about, is_shallow, plan_of, problems_of, settings_of, slow_but
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.experiment.build import Phase, build, load_data
from deepsad_pl.experiment.fit_deep import fit_phase
from deepsad_pl.experiment.plan import make_plan
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.training.compiling import compiled, missing_for_compiling

Experiment = Callable[..., Outcome]
DEEP = [name for name in METHODS if not is_shallow(name)]
CPU = torch.device("cpu")
# 112 rows in batches of 26 are 5 batches of 22 or 23 rows: both sizes of an epoch.
SHORT = ("scenario.gamma_l=0.1", "scenario.gamma_n=0.1", "trainer.max_epochs=2", "method.batch_size=26", "trainer=cpu")
COMPILERS = pytest.mark.skipif(missing_for_compiling(on_gpu=False) is not None, reason="no C++ compiler here")


class Sink:
    def __init__(self) -> None:
        self.values: list[float] = []

    def losses(self, phase: str, epoch: int, first_step: int, values: Any) -> None:
        self.values += values


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """The compiled graphs, run without a compiler: minutes of C++ compilation would test torch more than our code."""
    graphs: list[torch.fx.GraphModule] = []
    compile_ = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    def without_inductor(function: Callable[..., Tensor], *, mode: str, **options: Any) -> Callable[..., Tensor]:
        assert mode == "default"
        return compile_(function, backend=backend, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "compile", without_inductor)
    yield graphs
    torch.compiler.reset()


def trained(tmp_path: Path, *overrides: str) -> tuple[Phase, list[float]]:
    plan = plan_of(*SHORT, *overrides, f"output_dir={tmp_path}")
    phase = build(plan, load_data(plan)).phases[-1]
    plan.run_dir.mkdir(parents=True)
    sink: Any = Sink()
    fit_phase(plan, phase, sink)
    return phase, sink.values


@pytest.mark.parametrize("words", [*slow_but(TYPICAL, DEEP), "deep_sad method.eta_scale=initial"])
def test_a_compiled_training_takes_the_same_steps(
    tmp_path: Path, traced: list[torch.fx.GraphModule], words: str
) -> None:
    method = words.split()[0]
    overrides = [*f"method={words}".split(), *(["pretrain=none"] if "none" in about(method).pretrain else [])]
    plain, expected = trained(tmp_path / "plain", *overrides)
    assert not traced
    phase, losses = trained(tmp_path / "compiled", *overrides, "trainer.compile=true")
    # One for each of the two sizes of a batch, and no break inside.
    assert len(traced) == 2
    assert len(losses) == 10
    assert losses == pytest.approx(expected, rel=1e-5)
    for (name, ours), theirs in zip(phase.module.state_dict().items(), plain.module.state_dict().values(), strict=True):
        assert torch.allclose(ours.double(), theirs.double(), rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("method", slow_but(TYPICAL, DEEP))
def test_bf16_trains_and_leaves_the_loss_in_float32(tmp_path: Path, method: str) -> None:
    overrides = [f"method={method}", *(["pretrain=none"] if "none" in about(method).pretrain else [])]
    _, expected = trained(tmp_path / "plain", *overrides)
    phase, losses = trained(tmp_path / "bf16", *overrides, "trainer.precision=bf16-mixed")
    assert losses != expected
    # 5.6 % for PReNet on one kind of CPU: bf16 has three digits, and errors of the first steps grow.
    assert losses == pytest.approx(expected, rel=0.1, abs=0.01)
    loader = phase.data.train_dataloader()
    x, semi_y, _, _ = next(iter(loader))
    single, _, _, _ = next(iter(loader.samples()))
    with torch.autocast("cpu", torch.bfloat16):
        assert phase.module.terms(x, semi_y).dtype == torch.float32
        assert phase.module.score(single).dtype == torch.float32
    assert all(tensor.dtype == torch.float32 for tensor in phase.module.parameters())


@COMPILERS
@pytest.mark.slow
def test_the_compiler_is_used_with_bf16_too(experiment: Experiment) -> None:
    overrides = (
        "dataset=toy",
        "dataset.network.units=[8,4]",
        "pretrain=none",
        "method.batch_size=1000",
        "trainer.max_epochs=1",
    )
    outcome = experiment(*overrides, "trainer.compile=true", "trainer.precision=bf16-mixed")
    assert outcome.record["trainer"]["compile"] is True
    assert 0.5 < outcome.record["auroc"] <= 1


def test_compiling_is_not_part_of_the_identity() -> None:
    assert plan_of("trainer.compile=true").run_dir == plan_of().run_dir


def test_a_record_and_a_cached_autoencoder_say_if_they_were_compiled(
    experiment: Experiment, traced: list[torch.fx.GraphModule]
) -> None:
    first = experiment("method=deep_sad", "trainer=cpu", "trainer.max_epochs=1", "trainer.compile=true")
    assert first.record["trainer"]["compile"] is True
    second = experiment("method=deep_sad", "method.eta=2", "trainer.max_epochs=1")
    assert second.record["trainer"]["compile"] is False
    assert second.record["reused"]["pretrain"]["trained_with"]["compile"] is True


@pytest.mark.parametrize("method", ["deep_sad", "ss_dgm_m2"])
def test_a_module_is_compiled_for_its_training_only(method: str, traced: list[torch.fx.GraphModule]) -> None:
    plan = plan_of(f"method={method}", "pretrain=none", "scenario.gamma_l=0.1")
    module: TrainedMethod = build(plan, load_data(plan)).phases[-1].module
    before = getattr(module, module.graph)
    with pytest.raises(KeyboardInterrupt), compiled(module, CPU):
        assert getattr(module, module.graph) != before
        raise KeyboardInterrupt
    assert getattr(module, module.graph) == before


def test_a_gpu_replays_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda function, *, mode, **_: modes.append(mode) or function)
    plan = plan_of("pretrain=none")
    with compiled(build(plan, load_data(plan)).phases[-1].module, torch.device("cuda")):
        pass
    assert modes == ["reduce-overhead"]


def no_tools(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(path))


@pytest.mark.parametrize(("on_gpu", "variable", "needed"), [(False, "CXX", "C++ compiler"), (True, "CC", "C compiler")])
def test_what_a_machine_lacks_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, on_gpu: bool, variable: str, needed: str
) -> None:
    no_tools(monkeypatch, tmp_path)
    assert needed in str(missing_for_compiling(on_gpu))
    (tmp_path / "mycc").touch(mode=0o755)
    monkeypatch.setenv(variable, "mycc")
    headers = tmp_path / "include"
    monkeypatch.setattr(sysconfig, "get_path", {"include": str(headers)}.get)
    assert "Python.h" in str(missing_for_compiling(on_gpu))
    headers.mkdir()
    (headers / "Python.h").touch()
    assert missing_for_compiling(on_gpu) is None
    monkeypatch.setenv(variable, "nothing-of-that-name")
    assert "nothing-of-that-name" in str(missing_for_compiling(on_gpu))


def test_a_machine_without_a_compiler_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_tools(monkeypatch, tmp_path)
    assert shutil.which("g++") is None
    (problem,) = problems_of("trainer=cpu", "trainer.compile=true")
    assert "C++ compiler" in problem
    assert "trainer.compile=false" in problem
    plan_of("trainer=cpu")


def test_compilers_are_not_looked_for_if_jobs_run_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = settings_of("trainer=cpu", "trainer.compile=true")
    no_tools(monkeypatch, tmp_path)
    assert make_plan(settings, tasks=1).trainer["compile"] is True
    with pytest.raises(DeepSADError, match="compiler"):
        make_plan(settings)


def test_several_ranks_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepsad_pl.settings.checks.missing_for_compiling", lambda on_gpu: None)
    (problem,) = problems_of("trainer=ddp", "trainer.accelerator=cpu", "trainer.compile=true")
    assert "2 devices" in problem
    assert "trainer.compile=false" in problem


def test_gpus_are_looked_for_if_the_accelerator_is_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("deepsad_pl.settings.checks.missing_for_compiling", lambda on_gpu: asked.append(on_gpu))
    for found in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=found: found)
        plan_of("trainer=auto", "trainer.compile=true")
    assert asked == [False, True]
