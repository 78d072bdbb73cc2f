"""Many trainings as one: each step, state and score equals that of a replica trained alone."""

import dataclasses
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import plan_of
from pytorch_lightning import Callback
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.batch_loader import BatchLoader
from deepsad_pl.experiment.build import Parts, build, load_data
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.scoring import score_test_set
from deepsad_pl.methods.losses import soft_boundary_terms
from deepsad_pl.networks.batch_norm import BatchNorm
from deepsad_pl.networks.upsampled_convolution import upsampled_convolution
from deepsad_pl.stacked.grouping import packs_of, stack_key
from deepsad_pl.stacked.replica_loader import StackedLoader
from deepsad_pl.stacked.replica_memory import _left_in_groups, free_bytes, replica_bytes
from deepsad_pl.stacked.replica_norm import Rows, norm_and_leaky_relu
from deepsad_pl.stacked.training import Training, train_stack
from deepsad_pl.tracking.tracker import NoTracker
from deepsad_pl.training.trainer import CollapseCheck, LossRecorder, make_trainer

# Unequal numbers of samples and batches, batches of unequal size, every kind of setting that replicas may differ in.
DIGITS = [
    ("scenario.normal_class=0", "scenario.anomaly_class=1", "scenario.gamma_l=0.1", "seed=0"),
    ("scenario.normal_class=3", "scenario.anomaly_class=8", "scenario.gamma_l=0.05", "seed=1", "dataset.batch_size=20"),
    ("scenario.normal_class=8", "scenario.anomaly_class=3", "scenario.gamma_p=0.1", "seed=2", "dataset.batch_size=50"),
    ("scenario.normal_class=8", "scenario.k_l=2", "scenario.anomaly_class=null", "scenario.gamma_l=0.2", "seed=0"),
]
METHODS = [
    ("method=deep_sad", "method.eta=2.5", "method.eta_scale=initial", "method.lr=[0.002,0.1]"),
    ("method=deep_svdd", "method.weight_decay=0.01"),
    ("method=soft_boundary_svdd", "method.nu=0.2"),
    ("method=deep_sad", "method.center_from=all", "scenario.gamma_n=0.1"),
]


class Losses(NoTracker):
    def __init__(self) -> None:
        self.values: list[float] = []
        self.first_steps: list[int] = []

    def losses(self, phase: str, epoch: int, first_step: int, values: Sequence[float]) -> None:
        self.values += values
        self.first_steps.append(first_step)


def double(parts: Parts) -> Parts:
    """The same in double precision, so that rounding hides no error."""
    for phase in parts.phases:
        phase.module.double()
        source = phase.data.source
        rows = (source.x_train / (source.scale or 1)).astype(np.float64)
        phase.data.source = dataclasses.replace(source, x_train=rows, scale=None)
    return parts


def made(*overrides: str) -> tuple[Plan, Parts]:
    plan = plan_of("logger=none", "trainer.accelerator=cpu", *overrides)
    return plan, double(build(plan, load_data(plan)))


def alone(parts: Parts, number: int, trainer_settings: dict[str, Any], folder: Path) -> tuple[Losses, CollapseCheck]:
    phase, losses = parts.phases[number], Losses()
    check = CollapseCheck(phase.name)
    callbacks: list[Callback] = [LossRecorder(phase.name, losses), check]
    trainer = make_trainer(trainer_settings, folder, sum(phase.module.epochs), callbacks)
    trainer.fit(phase.module, datamodule=phase.data)
    return losses, check


def together(
    experiments: Sequence[Parts], number: int, trainer_settings: dict[str, Any], folder: Path
) -> tuple[list[Losses], list[Any]]:
    losses = [Losses() for _ in experiments]
    paths = [folder / str(i) / "checkpoints" / "x.ckpt" for i in range(len(experiments))]
    trainings = []
    for parts, path, sink in zip(experiments, paths, losses, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = torch.load(path, weights_only=True) if path.exists() else None
        trainings.append(Training(parts.phases[number], path, sink, resumed))
    return losses, train_stack(trainings, trainer_settings, folder)


def assert_same_as_alone(cells: Sequence[Sequence[str]], folder: Path, epochs: int = 17) -> list[tuple[Plan, Parts]]:
    """Train the cells alone and stacked, and check that each phase agrees; return the stacked ones."""
    plan, _ = made(*cells[0])
    singles, stacked = ([made(f"trainer.max_epochs={epochs}", *cell) for cell in cells] for _ in range(2))
    for number in range(len(singles[0][1].phases)):
        if number:
            for _, parts in (*singles, *stacked):
                parts.phases[number].module.start_from(parts.phases[number - 1].module)
        expected = [alone(parts, number, plan.trainer, folder) for _, parts in singles]
        losses, results = together([parts for _, parts in stacked], number, plan.trainer, folder)
        for i, (single, check) in enumerate(expected):
            assert losses[i].first_steps == single.first_steps
            np.testing.assert_allclose(losses[i].values, single.values, rtol=1e-6)
            state, reference = results[i]["state_dict"], singles[i][1].phases[number].module.state_dict()
            assert state.keys() == reference.keys()
            for key in state:
                torch.testing.assert_close(state[key], reference[key], rtol=1e-8, atol=1e-10, msg=f"replica {i}: {key}")
            assert results[i]["spread"]["initial"] == pytest.approx(check.initial, rel=1e-9)
            assert results[i]["spread"]["final"] == pytest.approx(check.final, rel=1e-6)
    return stacked


@pytest.mark.slow
def test_lenets_of_unequal_size_take_the_steps_of_single_runs(tmp_path: Path) -> None:
    assert_same_as_alone(DIGITS, tmp_path)  # 51 to 119 steps a phase


def test_stacked_decoders_merge_upsampling_and_convolution_as_single_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches are large enough to pay, in the stack and for the largest replica alone."""
    seen: dict[str, int] = {"alone": 0, "stacked": 0}

    def counted(where: str) -> Callable[[Tensor, Tensor], Tensor]:
        def told(x: Tensor, weight: Tensor) -> Tensor:
            seen[where] += 1
            return upsampled_convolution(x, weight)

        return told

    monkeypatch.setattr("deepsad_pl.networks.upsampled_convolution.upsampled_convolution", counted("alone"))
    monkeypatch.setattr("deepsad_pl.stacked.network.upsampled_convolution", counted("stacked"))
    common = ("dataset.network.kernel_size=5", "dataset.network.filters=[4,2]")
    cells = [
        (*cell[:4], f"dataset.batch_size={size}", *common) for cell, size in zip(DIGITS, (200, 67, 30), strict=False)
    ]
    assert_same_as_alone(cells, tmp_path, epochs=4)
    assert seen["alone"] > 0
    assert seen["stacked"] > 0


def test_methods_that_differ_in_their_loss_share_a_stack(tmp_path: Path) -> None:
    assert_same_as_alone([cell + method for cell, method in zip(DIGITS, METHODS, strict=True)], tmp_path, epochs=6)


@pytest.mark.parametrize("others", ["fixed", "initial"])
def test_each_replica_has_its_own_unit_of_distances(tmp_path: Path, others: str) -> None:
    cells = [
        ("dataset=toy", "scenario.gamma_l=0.1", f"seed={seed}", f"method.eta_scale={others if seed else 'initial'}")
        for seed in (1, 0, 2)
    ]
    assert_same_as_alone(cells, tmp_path, epochs=3)


def test_classifiers_are_stacked(tmp_path: Path) -> None:
    cells = [cell for cell in DIGITS if any("gamma_l" in word for word in cell)]
    assert_same_as_alone([(*cell, "method=classifier") for cell in cells], tmp_path, epochs=6)


@pytest.mark.parametrize("method", ["ss_dgm_m2", "ss_dgm_m1m2"])
@pytest.mark.parametrize("dataset", ["digits", "toy"])
def test_generative_models_draw_the_same_noise_as_single_runs(tmp_path: Path, dataset: str, method: str) -> None:
    cells = [cell for cell in DIGITS if any("gamma_l" in word for word in cell)]
    if dataset == "toy":
        cells = [(f"scenario.gamma_l={gamma}", f"seed={seed}") for seed, gamma in enumerate((0.02, 0.2, 0.1))]
    assert_same_as_alone([(f"dataset={dataset}", f"method={method}", *cell) for cell in cells], tmp_path, epochs=5)


def test_autoencoders_as_a_method_with_cross_entropy_are_stacked(tmp_path: Path) -> None:
    assert_same_as_alone(
        [(*cell, "method=autoencoder", "method.loss=cross_entropy") for cell in DIGITS], tmp_path, epochs=5
    )


def test_mlps_of_unequal_size_take_the_steps_of_single_runs(tmp_path: Path) -> None:
    cells = [
        ("dataset=toy", f"scenario.gamma_l={gamma}", f"seed={seed}") for seed, gamma in enumerate((0.01, 0.2, 0.1))
    ]
    stacked = assert_same_as_alone(
        [(*cell, f"dataset.batch_size={40 + 9 * i}") for i, cell in enumerate(cells)], tmp_path, epochs=10
    )
    for plan, parts in stacked:
        module = parts.phases[-1].module.float()
        trainer = make_trainer(plan.trainer, tmp_path, 1, [])
        trainer.test(module, datamodule=parts.data, verbose=False)
        scored, device = score_test_set(plan, module, parts.data)
        assert device == torch.device("cpu")
        for key, tensor in module.test_result.items():
            assert torch.equal(scored[key], tensor)


@pytest.mark.parametrize("eta_scale", ["fixed", "initial"])
def test_a_replica_that_turns_nan_fails_alone(tmp_path: Path, eta_scale: str) -> None:
    common = ("dataset=toy", "pretrain=none", "trainer.max_epochs=6", f"method.eta_scale={eta_scale}")
    cells = [(*common, f"seed={seed}") for seed in range(3)]
    undisturbed = [made(*cell)[1] for cell in cells]
    plan, _ = made(*cells[0])
    _, expected = together(undisturbed, 0, plan.trainer, tmp_path)
    disturbed = [made(*cell)[1] for cell in cells]
    source = disturbed[1].phases[0].data.source
    rows = source.x_train.copy()
    rows[disturbed[1].phases[0].data.training_set.index[0]] = np.inf
    disturbed[1].phases[0].data.source = dataclasses.replace(source, x_train=rows)
    _, found = together(disturbed, 0, plan.trainer, tmp_path)
    assert isinstance(found[1], DeepSADError)
    assert "the fit loss is nan in epoch 0; lower method.lr" in str(found[1])
    for i in (0, 2):
        for key, tensor in expected[i]["state_dict"].items():
            assert torch.equal(found[i]["state_dict"][key], tensor)


class KilledError(Exception):
    pass


def test_a_killed_stack_resumes_in_another_stack_or_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [(*cell, "trainer.max_epochs=6", "pretrain=none", "trainer.checkpoint_seconds=0") for cell in DIGITS]
    plan, _ = made(*cells[0])
    expected_losses, expected = together([made(*cell)[1] for cell in cells], 0, plan.trainer, tmp_path / "whole")

    from deepsad_pl.stacked.callbacks import ReplicaCheckpoints

    save = ReplicaCheckpoints.on_train_epoch_end

    def save_and_die(self: Any, trainer: Any, pl_module: Any) -> None:
        save(self, trainer, pl_module)
        if trainer.current_epoch == 3:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(ReplicaCheckpoints, "on_train_epoch_end", save_and_die)
        with pytest.raises(KilledError):
            together([made(*cell)[1] for cell in cells], 0, plan.trainer, tmp_path)

    # Two of them in a separate stack, in another order; one alone, by the Trainer of single runs.
    paths = [tmp_path / str(i) / "checkpoints" / "x.ckpt" for i in range(len(cells))]
    trainings = [
        Training(made(*cells[i])[1].phases[0], paths[i], Losses(), torch.load(paths[i], weights_only=True))
        for i in (2, 0)
    ]
    assert {training.epoch for training in trainings} == {4}
    results = dict(zip((2, 0), train_stack(trainings, plan.trainer, tmp_path), strict=True))
    for i, training in zip((2, 0), trainings, strict=True):
        result = results[i]
        assert not isinstance(result, Exception)
        assert isinstance(training.sink, Losses)
        rest = expected_losses[i].values[-2 * training.phase.data.batches :]
        np.testing.assert_allclose(training.sink.values, rest, rtol=1e-6)
        assert training.sink.first_steps == expected_losses[i].first_steps[-2:]
        for key, tensor in expected[i]["state_dict"].items():
            torch.testing.assert_close(result["state_dict"][key], tensor, rtol=1e-8, atol=1e-10)
        assert result["spread"] == pytest.approx(expected[i]["spread"], rel=1e-6)
        assert len(result["losses"]) == 6
        assert result["losses"] == pytest.approx(expected[i]["losses"], rel=1e-6)

    phase, losses = made(*cells[3])[1].phases[0], Losses()
    trainer = make_trainer(plan.trainer, tmp_path, 6, [LossRecorder("fit", losses), CollapseCheck("fit")])
    trainer.fit(phase.module, datamodule=phase.data, ckpt_path=paths[3], weights_only=True)
    np.testing.assert_allclose(losses.values, expected_losses[3].values[-2 * phase.data.batches :], rtol=1e-6)
    assert losses.first_steps == expected_losses[3].first_steps[-2:]
    for key, tensor in expected[3]["state_dict"].items():
        torch.testing.assert_close(phase.module.state_dict()[key], tensor, rtol=1e-8, atol=1e-10)


@given(
    counts=st.lists(st.tuples(st.integers(2, 60), st.integers(2, 20)), min_size=1, max_size=5),
    epoch=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_each_replica_gets_the_batches_of_its_own_loader(counts: list[tuple[int, int]], epoch: int) -> None:
    def loaders() -> list[BatchLoader]:
        offset, made = 0, []
        for seed, (samples, batch_size) in enumerate(sorted(counts, key=lambda c: -math.ceil(c[0] / c[1]))):
            x = torch.arange(offset, offset + samples).float()[:, None]
            offset += samples
            made.append(
                BatchLoader(x, torch.arange(samples) % 3 - 1, torch.zeros(samples), batch_size=batch_size, seed=seed)
            )
        return made

    single = loaders()
    for loader in single:
        loader.set_epoch(epoch)
    expected = [list(loader) for loader in single]
    stacked = StackedLoader(loaders())
    stacked.sampler.set_epoch(epoch)
    chunks = [list(chunk) for chunk in stacked]
    batches = [batch for chunk in chunks for batch in chunk]
    assert len(chunks) == len(stacked)
    assert len(batches) == stacked.steps == max(map(len, expected))
    for step, (x, semi_y, rows) in enumerate(batches):
        active = [replica for replica in expected if step < len(replica)]
        assert len(x) == len(semi_y) == len(rows.sizes) == len(active)
        for k, replica in enumerate(active):
            x_alone, semi_y_alone, _, _ = replica[step]
            size = len(x_alone)
            assert rows.sizes[k] == size
            assert torch.equal(x[k, :size], x_alone)
            assert torch.equal(semi_y[k, :size], semi_y_alone)
            assert torch.equal(rows.weight[k, 0] > 0, torch.arange(x.shape[1]) < size)
            assert rows.weight[k].sum().item() == pytest.approx(1)


def test_loaders_that_do_not_fit_together_are_refused() -> None:
    def loader(samples: int, width: int = 1) -> BatchLoader:
        return BatchLoader(torch.zeros(samples, width), torch.zeros(samples), torch.zeros(samples), batch_size=2)

    with pytest.raises(ValueError, match="order them by that number"):
        StackedLoader([loader(2), loader(8)])
    with pytest.raises(ValueError, match="differ in shape"):
        StackedLoader([loader(2), loader(2, 3)])


@pytest.mark.parametrize("slope", [0.1, 1.0])
def test_batch_norm_counts_each_replica_s_rows_alone(slope: float) -> None:
    sizes, channels = (5, 3, 8), 4
    rows = Rows.of(sizes, torch.zeros(1, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 8, channels, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 8, channels, generator=generator, dtype=torch.float64) * (rows.weight > 0).transpose(1, 2)
    y, mean, var = norm_and_leaky_relu(x, rows, eps=1e-4, slope=slope)
    (y * weight).sum().backward()
    assert x.grad is not None
    for k, size in enumerate(sizes):
        norm = BatchNorm(channels).double()
        part = x.detach()[k, :size].clone().requires_grad_()
        expected = torch.nn.functional.leaky_relu(norm(part), slope)
        (expected * weight[k, :size]).sum().backward()
        torch.testing.assert_close(y[k, :size], expected)
        torch.testing.assert_close(x.grad[k, :size], part.grad)
        assert not x.grad[k, size:].any()
        torch.testing.assert_close(mean[k, 0] * 0.1, norm.running_mean)
        assert norm.running_var is not None
        torch.testing.assert_close(0.9 + 0.1 * (var * rows.repeated(1).unbiased)[k, 0], norm.running_var)


def test_batch_norm_passes_gradcheck() -> None:
    rows = Rows.of((3, 4), torch.zeros(1, dtype=torch.float64))
    x = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    counted = rows.valid
    assert counted is not None

    def loss(x: Tensor) -> Tensor:
        return norm_and_leaky_relu(x, rows, eps=1e-4, slope=0.1)[0] * counted

    torch.autograd.gradcheck(loss, (x,))


@given(keys=st.lists(st.sampled_from("abc"), max_size=60), most=st.integers(1, 12), workers=st.integers(1, 5))
def test_packs_hold_each_item_once_beside_similar_ones(keys: list[str], most: int, workers: int) -> None:
    items = [(key, (key, i)) for i, key in enumerate(keys)]
    packs = packs_of(items, most=most, workers=workers)
    assert sorted(item for pack in packs for item in pack) == sorted(item for _, item in items)
    for key in set(keys):
        mine = [pack for pack in packs if pack[0][0] == key]
        assert all(item[0] == key for pack in mine for item in pack)
        sizes = [len(pack) for pack in mine]
        assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
        assert len(mine) >= min(workers, keys.count(key))


def test_experiments_stack_by_their_kind() -> None:
    def key(*overrides: str) -> object:
        return stack_key(plan_of(*overrides))

    base = key()
    assert base is not None
    alike = (
        "scenario.normal_class=5", "scenario.gamma_l=0.2", "scenario.gamma_p=0.1", "seed=4", "method.eta=3",
        "method.lr=[1,2]", "dataset.batch_size=20", "recipe=paper", "method.weight_decay=0", "method=deep_svdd",
        "method=soft_boundary_svdd",
    )  # fmt: skip
    assert all(key(word) == base for word in alike)
    others = (
        "method=classifier", "pretrain=none", "trainer.precision=bf16-mixed", "trainer.max_epochs=3", "dataset=cardio",
        "method=autoencoder", "method=ss_dgm_m2", "method=ss_dgm_m1m2", "method=ss_dgm_m2 method.latent=3",
    )  # fmt: skip
    assert len({base, *(key("scenario.gamma_l=0.1", *words.split()) for words in others)}) == 1 + len(others)
    alone = ("method=ocsvm_raw", "method=ssad_hybrid", "trainer.compile=true", "trainer=ddp trainer.accelerator=cpu")
    assert all(key("scenario.gamma_l=0.1", *words.split()) is None for words in alone)


def test_memory_grows_with_the_batch_and_the_image() -> None:
    network = {"name": "lenet", "in_shape": [1, 28, 28], "filters": [8, 4], "dense": [32]}
    small = replica_bytes(network, (1, 28, 28), batch_size=100, data=784_000)
    assert replica_bytes(network, (1, 28, 28), batch_size=200, data=784_000) > 1.5 * small
    assert replica_bytes(network, (1, 28, 28), batch_size=100, data=10_784_000) - small == 20_000_000
    # The first convolution alone has 8 x 28 x 28 outputs per sample.
    assert small > 4 * 100 * 8 * 28 * 28
    assert 0 < small < free_bytes("cpu")


def test_the_memory_limit_is_that_of_the_control_groups(tmp_path: Path) -> None:
    def write(folder: str, **files: object) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / name.replace("__", ".")).write_text(f"{content}\n")

    own = tmp_path / "own"
    own.write_text("4:memory:/slurm/job\n3:cpuset:/other\n0::/system/task\n")
    assert _left_in_groups(tmp_path, own) == [2**63]
    write("memory/slurm/job", memory__limit_in_bytes=900, memory__usage_in_bytes=300)
    write("memory/slurm", memory__limit_in_bytes=500, memory__usage_in_bytes=400)
    write("system/task", memory__max="max", memory__current=7)
    write("system", memory__max=2000, memory__current=2500)
    assert sorted(_left_in_groups(tmp_path, own)) == [0, 100, 600, 2**63]
    assert _left_in_groups(tmp_path, tmp_path / "nothing") == [2**63]


def test_bf16_gives_the_same_results_in_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Up to its rounding, which keeps 8 bits of a factor; the stack tells where it is slow."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    words = ("trainer.precision=bf16-mixed", "trainer.max_epochs=3", "logger=none", "trainer.accelerator=cpu")
    for cells in (DIGITS, [("dataset=toy", f"seed={seed}") for seed in range(3)]):
        plans = [plan_of(*words, *cell) for cell in cells]
        single, stacked = ([build(plan, load_data(plan)) for plan in plans] for _ in range(2))
        expected = [alone(parts, 0, plans[0].trainer, tmp_path)[0].values for parts in single]
        losses, results = together(stacked, 0, plans[0].trainer, tmp_path / str(cells[0][0]))
        for replica, values, result in zip(losses, expected, results, strict=True):
            np.testing.assert_allclose(replica.values, values, rtol=2e-2)
            assert {tensor.dtype for tensor in result["state_dict"].values()} == {torch.float32, torch.int64}
            assert not torch.tensor(replica.values).bfloat16().double().equal(torch.tensor(replica.values).double())
        assert caplog.text.count("emulates bf16") == 1
        caplog.clear()


@given(runs=st.lists(st.integers(1, 9), min_size=1, max_size=30), most=st.integers(1, 20), workers=st.integers(1, 4))
def test_packs_split_runs_of_items_only_if_needed(runs: list[int], most: int, workers: int) -> None:
    items = [("a", (i, j)) for i, length in enumerate(runs) for j in range(length)]
    packs = packs_of(items, most=most, workers=workers, together=lambda item: item[0])
    assert [item for pack in packs for item in pack] == [item for _, item in items]
    assert len(packs) == len(packs_of(items, most=most, workers=workers))
    assert all(1 <= len(pack) <= most for pack in packs)


def test_small_packs_are_not_divided_among_workers() -> None:
    def sizes(count: int) -> list[int]:
        return [len(pack) for pack in packs_of([("a", i) for i in range(count)], most=32, workers=2, least=16)]

    assert [sizes(count) for count in (10, 31, 32, 40, 65)] == [[10], [31], [16, 16], [20, 20], [17, 16, 16, 16]]


def test_five_etas_of_a_cell_stay_in_one_pack() -> None:
    items = [("a", (cell, eta)) for cell in range(90) for eta in range(5)]
    packs = packs_of(items, most=32, workers=2, together=lambda item: item[0])
    assert len(packs) == 16
    assert {len(pack) % 5 for pack in packs} == {0}


def test_soft_boundary_terms_take_a_radius_of_each_replica() -> None:
    distance2 = torch.tensor([[1.0, 4.0, 9.0], [1.0, 4.0, 9.0]])
    radius = torch.tensor([[1.5], [2.5]])
    both = soft_boundary_terms(distance2, radius, 0.5)
    for row, r, expected in zip(distance2, radius, both, strict=True):
        torch.testing.assert_close(soft_boundary_terms(row, r, 0.5), expected)
