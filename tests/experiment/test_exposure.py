"""Outlier exposure: images of a second data set are known anomalies in training, and nowhere else."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planned import plan_of, problems_of
from stacks import alone, outcomes, scores, together
from tiny_data import expected_of_cifar10, write_cifar10, write_idx
from torchvision import datasets

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.exposure import Exposure, exposed_images
from deepsad_pl.data.sources import image_source
from deepsad_pl.experiment.build import Parts, build, load_data
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.run import Outcome, what_was_done

EXPOSED = "scenario.exposure=fmnist"


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """Overrides that choose a small MNIST, beside which there is a small Fashion-MNIST."""
    write_idx(tmp_path / "data", "MNIST", train=200)
    # Fewer images, other ones: the same generator makes both.
    write_idx(tmp_path / "data", "FashionMNIST", train=150)
    return "dataset=mnist", f"data_dir={tmp_path / 'data'}", "trainer.accelerator=cpu", "method.batch_size=20"


def built(plan: Plan) -> Parts:
    return build(plan, load_data(plan))


def batches_of(loader: Any) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(parts) for parts in zip(*loader, strict=True))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("dataset=mnist", "scenario.exposure=tinyimages"), "scenario.exposure is 'tinyimages'; choose one of mnist, "),
        (("dataset=mnist", "scenario.exposure=mnist"), "scenario.exposure is mnist, which is also the data set"),
        (("dataset=cardio", EXPOSED), "scenario.exposure is fmnist, but dataset=cardio has rows of a table"),
    ],
)
def test_an_exposure_that_cannot_be_is_a_problem(overrides: tuple[str, ...], expected: str) -> None:
    (problem,) = problems_of(*overrides)
    assert problem.startswith(expected)
    assert len(problems_of(*overrides, "scenario.gamma_p=2", "method.batch_size=0")) == 3


def test_without_it_nothing_changes_and_with_it_the_files_identify_the_run(words: tuple[str, ...]) -> None:
    plain, exposed = plan_of(*words), plan_of(*words, EXPOSED)
    assert plan_of(*words, "scenario.exposure=null").run_dir == plain.run_dir
    assert "exposure" not in plain.identity["scenario"]
    assert "-exposure_fmnist-seed_0-" in exposed.run_dir.name
    entry = exposed.identity["scenario"]["exposure"]
    assert entry["kind"] == "fmnist"
    # These files are not the published ones.
    assert len(entry["data_digest"]) == 64
    assert what_was_done(exposed)["scenario"]["exposure"] == entry
    assert "exposure" not in what_was_done(plain)["scenario"]
    published = plan_of("dataset=mnist", EXPOSED, "data_dir=nowhere").identity["scenario"]["exposure"]
    assert published == {"kind": "fmnist"}


def test_other_files_are_another_experiment_and_changed_ones_are_noticed(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    plan = plan_of(*words, EXPOSED)
    file = tmp_path / "data" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert plan_of(*words, EXPOSED).run_dir != plan.run_dir
    with pytest.raises(
        DeepSADError, match=r"files of scenario\.exposure=fmnist have changed since the run was planned"
    ):
        built(plan)


def test_a_method_that_sees_no_labels_has_one_run_with_and_without_it(words: tuple[str, ...]) -> None:
    for method in ("deep_svdd", "ocsvm_raw"):
        choice = [word for word in words if method == "deep_svdd" or "batch_size" not in word]
        one, other = plan_of(*choice, f"method={method}"), plan_of(*choice, f"method={method}", EXPOSED)
        assert one.run_dir == other.run_dir
    # Also if its rows depend on what is labeled.
    choice = [*words, "method=deep_svdd", "scenario.gamma_n=0.1", "scenario.gamma_p=0.1"]
    assert plan_of(*choice).run_dir == plan_of(*choice, EXPOSED).run_dir
    shown = "method.sees_labeled_anomalies=true"
    assert plan_of(*choice, shown).run_dir != plan_of(*choice, shown, EXPOSED).run_dir


def test_it_counts_as_labels_where_nothing_else_is_labeled(words: tuple[str, ...]) -> None:
    unlabeled = (*words, "scenario.gamma_l=0")
    assert plan_of(*unlabeled, "method=hsc", EXPOSED).scenario.has_known_anomalies
    (problem,) = problems_of(*unlabeled, "method=hsc")
    assert "method=hsc learns from labeled anomalies" in problem
    for extra, is_same in (((), True), ((EXPOSED,), False)):
        one, other = (plan_of(*unlabeled, *extra, f"method.eta={eta}").run_dir for eta in (1, 2))
        assert (one == other) == is_same


def test_its_images_are_labeled_anomalies_in_training_alone(words: tuple[str, ...], tmp_path: Path) -> None:
    plan, plain = plan_of(*words, EXPOSED, "method=hsc"), plan_of(*words, "method=hsc")
    (phase,), (before,) = built(plan).phases, built(plain).phases
    data, rest = phase.data, before.data
    x, semi_y, y, idx = batches_of(data.train_dataloader())
    order = torch.argsort(idx)
    x, semi_y, y = x[order], semi_y[order], y[order]
    size = len(rest.semi_y)
    # As many as there are training rows without them.
    assert len(x) == 2 * size
    assert (semi_y[size:] == -1).all()
    assert (y[size:] == 1).all()
    theirs = image_source("fmnist", data_dir=tmp_path / "data", seed=0).x_train
    known = {image.tobytes() for image in theirs}
    assert {image.tobytes() for image in (x[size:] * 255).round().numpy().astype(np.uint8)} <= known
    # The rows of the data set itself, the test set and what is calibrated or compared with stay as they are.
    assert np.array_equal(data.training_set.index, rest.training_set.index)
    assert np.array_equal(semi_y[:size], rest.semi_y)
    for one, other in (
        (data.test_dataloader(), rest.test_dataloader()),
        (data.calibration_dataloader(), rest.calibration_dataloader()),
    ):
        assert all(map(torch.equal, batches_of(one), batches_of(other)))
    assert np.array_equal(data.references(7), rest.references(7))
    assert data.digest() != rest.digest()
    counts = data.counts
    assert counts.exposure == size
    assert counts.labeled_anomalies == rest.counts.labeled_anomalies
    assert counts.total == 2 * size
    assert phase.module.hparams["anomaly_share"] == counts.known_anomalies / counts.total > 0.5


def test_the_draw_depends_on_the_seed_and_takes_each_image_once() -> None:
    images = np.arange(20, dtype=np.uint8).repeat(4).reshape(20, 1, 2, 2)
    drawn = [exposed_images(images, Exposure("fmnist"), (1, 2, 2), 12, seed=seed)[:, 0, 0, 0] for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert all(len(np.unique(one)) == 12 for one in drawn)
    assert np.array_equal(exposed_images(images, Exposure("fmnist"), (1, 2, 2), 50, seed=0), images)


def test_a_pretraining_without_labeled_anomalies_does_not_see_it(words: tuple[str, ...]) -> None:
    for data, sees in (("all", True), ("unlabeled", False)):
        pretrain, method = built(plan_of(*words, EXPOSED, f"pretrain.data={data}")).phases
        assert bool(pretrain.data.counts.exposure) == bool((pretrain.data.semi_y == -1).any()) == sees
        assert method.data.counts.exposure


def test_images_of_another_shape_are_refused_before_there_is_a_run_folder(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Callable[..., Outcome]
) -> None:
    for key, value in expected_of_cifar10(write_cifar10(tmp_path / "data")).items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    with pytest.raises(
        DeepSADError, match=r"exposure=cifar10 has images of 3x32x32 \(channels, height, width\).* has 1x28x28"
    ):
        experiment(*words, "scenario.exposure=cifar10")
    assert not (tmp_path / "runs").exists()


def test_a_run_records_and_logs_it(
    words: tuple[str, ...], experiment: Callable[..., Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outcome = experiment(
        *words, EXPOSED, "method=hsc", "scenario.gamma_l=0", "threshold=quantile", "trainer.max_epochs=1"
    )
    counts = outcome.record["counts"]
    assert counts["exposure"] == counts["unlabeled_normals"] == 20
    assert counts["labeled_anomalies"] == 0
    assert counts["train"] == 40
    assert outcome.record["scenario"]["exposure"]["kind"] == "fmnist"
    assert outcome.record["scenario"]["anomaly_class"] == []
    assert "20 unlabeled, 20 images of fmnist as known anomalies" in (outcome.run_dir / "train.log").read_text()


def test_a_shallow_method_sees_it_as_well(
    words: tuple[str, ...], tmp_path: Path, experiment: Callable[..., Outcome]
) -> None:
    choice = [word for word in words if "batch_size" not in word]
    outcome = experiment(*choice, EXPOSED, "method=knn_ratio_raw", "scenario.gamma_l=0")
    ours, theirs = (image_source(kind, data_dir=tmp_path / "data", seed=0) for kind in ("mnist", "fmnist"))
    drawn = exposed_images(theirs.x_train, Exposure("fmnist"), (1, 28, 28), 20, seed=0)
    test, normal, other = (
        part.reshape(len(part), -1) / 255 for part in (ours.x_test, ours.x_train[ours.labels_train == 0], drawn)
    )
    far, near = (np.sort(np.linalg.norm(test[:, None] - rows[None], axis=2), axis=1) for rows in (normal, other))
    expected = far[:, 4] / (far[:, 4] + near[:, 0])
    assert scores(outcome.run_dir) == pytest.approx(expected.tolist(), rel=1e-5)


def test_experiments_with_it_are_stacked(words: tuple[str, ...], tmp_path: Path) -> None:
    common = (*words, EXPOSED, "method=hsc", "trainer.max_epochs=2", "logger=none")
    cells = [(*common, f"seed={seed}", f"scenario.gamma_l={gamma}") for seed, gamma in ((0, 0.1), (1, 0))]
    singles = [alone(tmp_path / "alone", *cell) for cell in cells]
    for single, replica in zip(singles, outcomes(together(tmp_path / "stacked", *cells)), strict=True):
        assert replica.record["trainer"]["replicas"] == 2
        assert replica.record["counts"] == single.record["counts"]
        np.testing.assert_allclose(scores(replica.run_dir), scores(single.run_dir), rtol=2e-3, atol=2e-4)
