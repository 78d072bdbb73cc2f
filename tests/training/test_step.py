"""A training step is cheap: nothing is fetched from the device during an epoch. The benchmark of steps runs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from planned import METHODS, is_shallow, plan_of
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks import step
from benchmarks.deep_scoring import DATASETS
from benchmarks.deep_training import PerSample
from deepsad_pl.experiment.build import Phase, build, load_data
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.trainer import CollapseCheck, EpochCheckpoint, LossRecorder, PhaseProgress, make_trainer

DEEP = [name for name in METHODS if not is_shallow(name)]
# Operations that bring a value from the device to Python.
FETCHES = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")


class InsideAnEpoch(Callback):
    """Calls back before the first batch of an epoch is requested, and after its last step."""

    def __init__(self, on: Callable[[], None], off: Callable[[], None]) -> None:
        self.on, self.off = on, off
        self.epochs = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs += 1
        self.on()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            self.off()


def train(phase: Phase, path: Path, watch: Callback, trainer: str) -> None:
    recorder = LossRecorder(phase.name, NoTracker())
    callbacks = [recorder, PhaseProgress(phase.name, recorder), CollapseCheck(phase.name)]
    made = make_trainer(
        plan_of(f"trainer={trainer}").trainer, path, 2, [*callbacks, EpochCheckpoint(path / "a.ckpt", 0.0), watch]
    )
    made.fit(phase.module, datamodule=phase.data)


def phase_of(method: str, *words: str) -> Phase:
    words = words or ("method.batch_size=26",)
    plan = plan_of(f"method={method}", "scenario.gamma_l=0.1", "scenario.gamma_n=0.1", *words)
    return build(plan, load_data(plan)).phases[-1]


@contextmanager
def fetches(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InsideAnEpoch, list[str]]]:
    """A callback, and the values fetched between its two calls; at the end it must see exactly one fetch."""
    fetched: list[str] = []
    watching = False

    def noted(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)

        def fetch(self: Tensor, *arguments: Any, **options: Any) -> Any:
            if watching:
                fetched.append(name)
            return original(self, *arguments, **options)

        return fetch

    def watch(on: bool) -> None:
        nonlocal watching
        watching = on

    for name in FETCHES:
        monkeypatch.setattr(Tensor, name, noted(name))
    yield InsideAnEpoch(lambda: watch(True), lambda: watch(False)), fetched
    fetched.clear()
    watch(True)
    assert bool(torch.ones(1)[0] == 1)
    watch(False)
    assert fetched == ["__bool__"]


@pytest.mark.parametrize("method", DEEP)
def test_no_value_is_fetched_inside_an_epoch(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fetches(monkeypatch) as (inside, fetched):
        train(phase_of(method), tmp_path, inside, "cpu")
        assert inside.epochs == 2
        assert fetched == []


def train_as_one(method: str, folder: Path, watch: Callback, trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(settings: Any, run_dir: Path, max_epochs: int, callbacks: Sequence[Callback]) -> Trainer:
        return make_trainer(settings, run_dir, max_epochs, [*callbacks, watch])

    monkeypatch.setattr("deepsad_pl.stacked.training.make_trainer", watched)
    trainings = []
    for i, batch_size in enumerate((26, 40)):
        phase = phase_of(method, f"method.batch_size={batch_size}", "trainer.max_epochs=2")
        (folder / str(i)).mkdir()
        trainings.append(Training(phase, folder / str(i) / "checkpoints" / "x.ckpt", NoTracker()))
    results = train_stack(trainings, plan_of(f"trainer={trainer}").trainer, folder)
    assert not [result for result in results if isinstance(result, Exception)]


@pytest.mark.parametrize("method", DEEP)
def test_no_value_is_fetched_inside_an_epoch_of_a_stack(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fetches(monkeypatch) as (inside, fetched):
        train_as_one(method, tmp_path, inside, "cpu", monkeypatch)
        assert inside.epochs == 2
        assert fetched == []


@contextmanager
def no_synchronisation() -> Iterator[InsideAnEpoch]:
    """Fail if the GPU is waited for within an epoch."""
    try:
        yield InsideAnEpoch(
            lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default")
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", DEEP)
def test_a_gpu_is_not_waited_for_inside_an_epoch(method: str, tmp_path: Path) -> None:
    with no_synchronisation() as inside:
        train(phase_of(method), tmp_path, inside, "gpu")
        assert inside.epochs == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("method", DEEP)
def test_a_gpu_is_not_waited_for_inside_an_epoch_of_a_stack(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_synchronisation() as inside:
        train_as_one(method, tmp_path, inside, "gpu", monkeypatch)
        assert inside.epochs == 2


def test_setting_an_attribute_works_as_for_every_module() -> None:
    phase = phase_of("deep_sad")
    module: TrainedMethod = phase.module
    names = [name for name, _ in module.named_parameters()]
    module.extra = torch.nn.Linear(2, 2, bias=False)
    module._current_fx_name = "training_step"
    assert [name for name, _ in module.named_parameters()] == [*names, "extra.weight"]
    assert module._current_fx_name == "training_step"


def test_a_quick_benchmark_reports_milliseconds_of_every_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = ["per-sample data set", "ours", "ours bf16"]
    path = step.main(["--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path), "--cases", *cases])
    rows = json.loads(path.read_text())["rows"]
    expected = [(f"cardio {phase}", case) for phase in ("pretrain", "fit") for case in ("bare loop", *cases)]
    assert [(row["what"], row["case"]) for row in rows] == expected
    for row in rows:
        assert row["unit"] == "ms"
        assert len(row["values"]) == 1
        assert 0 < row["median"] < 60_000
    assert "cardio fit" in capsys.readouterr().out


def test_what_cannot_be_compiled_is_left_out_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.step.missing_for_compiling", lambda on_gpu: "a C++ compiler (g++)")
    arguments = ["--quick", "--repeats", "1", "--threads", "1", "--out", str(tmp_path), "--cases", "ours compiled"]
    rows = json.loads(step.main(arguments).read_text())["rows"]
    assert [row["note"] for row in rows] == ["", "not run: torch.compile needs a C++ compiler (g++)"] * 2
    assert [bool(row["values"]) for row in rows] == [True, False] * 2


def test_images_of_all_sizes_pass_the_per_sample_data_set() -> None:
    for shape, scale, _ in DATASETS.values():
        sample = torch.full((1, *shape), 51, dtype=torch.uint8 if scale else torch.float32)
        x, semi_y = PerSample(sample.numpy(), torch.tensor([-1]))[0]
        assert x.shape == shape
        assert x.unique().tolist() == pytest.approx([51 / 255 if scale else 51])
        assert semi_y == -1


def test_quick_sizes_are_of_one_network_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        step.main(["--quick", "--datasets", "mnist"])
    assert "--quick has cardio only" in capsys.readouterr().err
