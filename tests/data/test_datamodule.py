"""The data module: the contents of its batches, on which the ground truth has no influence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import datamodule
from deepsad_pl.data.datamodule import AnomalyDataModule
from deepsad_pl.data.scenario import Scenario, TrainingSet, draw_training_set
from deepsad_pl.data.sources import Source, digits_source

SCENARIO = Scenario(normal_classes=(0,), known_classes=(1,), gamma_l=0.1, gamma_p=0.1, gamma_n=0.2, seed=0)


def source(train: int = 120, test: int = 45, classes: int = 3) -> Source:
    # The first pixel of an image is its row, so that the rows of a batch can be identified.
    labels_train, labels_test = np.arange(train) % classes, np.arange(test) % classes
    x_train, x_test = (np.zeros((len(y), 1, 2, 2), np.uint8) for y in (labels_train, labels_test))
    x_train[:, 0, 0, 0], x_test[:, 0, 0, 0] = np.arange(train), np.arange(test)
    return Source(x_train, labels_train, x_test, labels_test, scale=255.0)


def whole(batches: Any) -> tuple[Tensor, ...]:
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def test_training_batches_hold_the_drawn_rows() -> None:
    data = AnomalyDataModule(source(), SCENARIO, batch_size=8)
    drawn = data.training_set
    x, semi_y, y, idx = whole(data.train_dataloader())
    rows = (x[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(rows, torch.from_numpy(drawn.index)[idx])
    assert torch.equal(semi_y, torch.from_numpy(drawn.semi_y)[idx])
    assert torch.equal(y, torch.from_numpy(drawn.y)[idx])
    assert sorted(idx.tolist()) == list(range(drawn.counts.total))


def test_labels_agree_with_the_scenario() -> None:
    data = AnomalyDataModule(source(), SCENARIO, batch_size=8)
    x, semi_y, y, _ = whole(data.train_dataloader())
    classes = (x[:, 0, 0, 0] * 255).round().long() % 3
    assert torch.equal(y, (classes != 0).long())
    assert set(classes[semi_y == -1].tolist()) == {1}
    assert set(classes[semi_y == 1].tolist()) == {0}
    counts = data.training_set.counts
    assert [int((semi_y == label).sum()) for label in (-1, 0, 1)] == [
        counts.labeled_anomalies,
        counts.unlabeled,
        counts.labeled_normals,
    ]


def test_a_batch_has_the_declared_types() -> None:
    data = AnomalyDataModule(source(), SCENARIO, batch_size=8)
    for batches in (data.train_dataloader(), data.test_dataloader()):
        x, semi_y, y, idx = next(iter(batches))
        assert [t.dtype for t in (x, semi_y, y, idx)] == [torch.float32, torch.int64, torch.int64, torch.int64]
        assert tuple(x.shape) == (len(idx), 1, 2, 2)


def test_images_are_uint8_copies_in_memory(tmp_path: Path) -> None:
    tiny = source()
    np.save(tmp_path / "x.npy", tiny.x_train)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = AnomalyDataModule(replace(tiny, x_train=mapped, x_test=mapped[:45]), SCENARIO, batch_size=8)
    for batches in (data.train_dataloader(), data.test_dataloader()):
        assert batches.x.dtype == torch.uint8
        assert not np.shares_memory(batches.x.numpy(), mapped)


def test_test_rows_in_memory_are_not_copied() -> None:
    tiny = source()
    data = AnomalyDataModule(tiny, SCENARIO, batch_size=8)
    assert np.shares_memory(data.test_dataloader().x.numpy(), tiny.x_test)


def test_the_test_set_is_complete_and_in_order() -> None:
    data = AnomalyDataModule(source(test=4500), SCENARIO, batch_size=8)
    _, semi_y, y, idx = whole(data.test_dataloader())
    assert idx.tolist() == list(range(4500))
    assert torch.equal(y, (torch.arange(4500) % 3 != 0).long())
    assert not semi_y.any()
    assert data.test_counts == {"test": 4500, "test_normal": 1500, "test_anomalous": 3000}


def test_labeled_anomalies_can_be_left_out() -> None:
    everything = AnomalyDataModule(source(), SCENARIO, batch_size=8)
    without = AnomalyDataModule(source(), SCENARIO, batch_size=8, labeled_anomalies=False)
    x, semi_y, y, idx = whole(without.train_dataloader())
    counts = everything.training_set.counts
    assert without.training_set.counts == counts
    assert len(x) == counts.total - counts.labeled_anomalies
    assert set(semi_y.tolist()) == {0, 1}
    assert int(y.sum()) == counts.pollution
    keep = everything.training_set.semi_y != -1
    rows = (x[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(rows, torch.from_numpy(everything.training_set.index[keep])[idx])


def test_the_order_comes_from_the_seed() -> None:
    orders = [
        whole(AnomalyDataModule(source(), SCENARIO, batch_size=8, seed=seed).train_dataloader())[3].tolist()
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("test_classes", [(0,), (1, 2)])
def test_a_test_set_of_a_single_class_is_refused(test_classes: tuple[int, ...]) -> None:
    tiny = source()
    keep = np.isin(tiny.labels_test, test_classes)
    one_kind = replace(tiny, x_test=tiny.x_test[keep], labels_test=tiny.labels_test[keep])
    with pytest.raises(DeepSADError, match=r"AUROC needs both; choose another scenario\.normal_class"):
        AnomalyDataModule(one_kind, SCENARIO)


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 200), (3, 2), (5, 4)])
def test_a_batch_of_one_sample_is_refused_exactly_when_there_is_one(rows: int, batch_size: int) -> None:
    plain = Scenario((0,), (), 0.0, 0.0, 0.0, 0)
    tiny = source(train=rows, classes=1)
    tiny = replace(tiny, labels_test=source().labels_test)
    if rows == 5:
        assert len(AnomalyDataModule(tiny, plain, batch_size=batch_size).train_dataloader()) == 2
    else:
        with pytest.raises(
            DeepSADError, match=rf"{rows} training rows in batches of {batch_size} .*change the batch_size"
        ):
            AnomalyDataModule(tiny, plain, batch_size=batch_size)


def test_an_impossible_scenario_names_the_classes() -> None:
    greedy = replace(SCENARIO, gamma_l=0.9)
    with pytest.raises(DeepSADError, match="labeled anomalies of class seven"):
        AnomalyDataModule(source(), greedy, classes=("zero", "seven", "two"))


def test_scrambled_ground_truth_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def scrambled(*args: Any) -> TrainingSet:
        drawn = draw_training_set(*args)
        return replace(drawn, y=1 - drawn.y)

    digits = digits_source(0)
    honest = AnomalyDataModule(digits, SCENARIO, batch_size=32)
    monkeypatch.setattr(datamodule, "draw_training_set", scrambled)
    lying = AnomalyDataModule(digits, SCENARIO, batch_size=32)
    for ours, theirs in zip(honest.train_dataloader(), lying.train_dataloader(), strict=True):
        assert torch.equal(ours[2], 1 - theirs[2])
        for i in (0, 1, 3):
            assert torch.equal(ours[i], theirs[i])


def test_classes_that_only_the_test_set_tells_apart_do_not_matter_in_training() -> None:
    tiny = source()
    plain = replace(SCENARIO, gamma_p=0.0)
    swapped = replace(tiny, labels_test=np.random.default_rng(0).permutation(tiny.labels_test))
    ours, theirs = (whole(AnomalyDataModule(s, plain, batch_size=8).train_dataloader()) for s in (tiny, swapped))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("size", "batches"), [(8, 1), (256, 14)])
def test_large_images_are_scored_in_small_batches(size: int, batches: int) -> None:
    x = np.zeros((40, 1, size, size), dtype=np.uint8)
    labels = np.arange(40) % 2
    data = AnomalyDataModule(Source(x, labels, x, labels, scale=255.0), Scenario((0,), (), 0.0, 0.0, 0.0, 0))
    assert len(data.test_dataloader()) == batches


def test_a_class_without_a_name_is_refused() -> None:
    x, labels = np.zeros((6, 2), dtype=np.float32), np.arange(6) % 3
    with pytest.raises(DeepSADError, match="contain class 2, but there are only 2 class names"):
        AnomalyDataModule(Source(x, labels, x, labels, None), Scenario((0,), (), 0, 0, 0, 0), classes=("a", "b"))
