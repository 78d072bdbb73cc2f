"""MVTec AD's layout: how each image is used, and the errors about a folder with another layout."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mvtec_tree import TEST, TRAIN, write_mvtec
from PIL import Image

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.mvtec import CATEGORIES, URL, mvtec_problems, mvtec_source, read_category
from deepsad_pl.data.sources import Source

SIDE = 18


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_mvtec(tmp_path / "mvtec", "bottle", "metal_nut", side=SIDE)


@pytest.fixture
def load(root: Path, tmp_path: Path) -> Callable[..., Source]:
    def source(*defects: str, seed: int = 0, **settings: Any) -> Source:
        given = {"labeled_images": 4, "image_size": SIDE, **settings}
        return mvtec_source(
            str(root), "bottle", labeled_defects=[*defects], data_dir=tmp_path / "data", seed=seed, **given
        )

    return source


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def problems_of(root: Path | str | None, category: str | None = "bottle", *defects: str, total: int = 4) -> list[str]:
    settings = {"root": None if root is None else str(root), "category": category}
    return list(mvtec_problems({**settings, "labeled_defects": [*defects], "labeled_images": total}))


def test_without_labeled_defects_the_test_set_is_the_published_one(load: Callable[..., Source]) -> None:
    source = load()
    assert source.x_train.shape == (TRAIN, 3, SIDE, SIDE)
    assert source.semi_y_train is not None
    assert not source.semi_y_train.any()
    assert source.ids_test is not None
    assert [str(name) for name in source.ids_test] == [
        f"test/{kind}/{i:03}.png" for kind in ("good", "hole", "scratch") for i in range(TEST[kind])
    ]
    assert source.labels_test.tolist() == [0] * 9 + [1] * 13


def test_drawn_images_are_known_anomalies_and_leave_the_test_set(load: Callable[..., Source], root: Path) -> None:
    source, published = load("hole", "scratch"), load()
    assert source.ids_train is not None and source.ids_test is not None and published.ids_test is not None
    assert source.semi_y_train is not None
    drawn = source.ids_train[source.semi_y_train == -1].tolist()
    assert [name.split("/")[1] for name in drawn] == ["hole"] * 2 + ["scratch"] * 2
    assert source.ids_test.tolist() == [name for name in published.ids_test.tolist() if name not in drawn]
    assert source.labels_test.tolist() == [int("good" not in name) for name in source.ids_test.tolist()]
    assert source.labels_train.tolist() == [int(name.startswith("test/")) for name in source.ids_train.tolist()]
    assert set(source.semi_y_train.tolist()) == {0, -1}
    assert source.folder == root / "bottle"
    for x, names in ((source.x_train, source.ids_train), (source.x_test, source.ids_test)):
        assert len(x) == len(names)
        for one, name in zip(x, names.tolist(), strict=True):
            assert np.array_equal(one, pixels(source.folder / name)), name


def test_the_seed_determines_the_draw(load: Callable[..., Source]) -> None:
    def drawn(seed: int, total: int = 4) -> set[str]:
        source = load("hole", seed=seed, labeled_images=total)
        assert source.ids_train is not None and source.semi_y_train is not None
        return {*source.ids_train[source.semi_y_train == -1].tolist()}

    assert drawn(0) == drawn(0) < drawn(0, 6)
    assert len({frozenset(drawn(seed)) for seed in range(5)}) > 1


def test_all_images_of_a_defect_may_be_labeled_if_another_defect_is_left(load: Callable[..., Source]) -> None:
    source = load("scratch", labeled_images=5)
    assert source.ids_test is not None
    assert not [name for name in source.ids_test.tolist() if "scratch" in name]
    assert source.labels_test.sum() == TEST["hole"]


def test_images_may_have_other_sizes_or_be_grey(load: Callable[..., Source]) -> None:
    assert load(image_size=[8, 12], channels=1).shape == (1, 8, 12)


def test_masks_are_never_read(load: Callable[..., Source], root: Path) -> None:
    before = load("hole")
    shutil.rmtree(root / "bottle" / "ground_truth")
    after = load("hole")
    assert np.array_equal(before.x_train, after.x_train)
    assert np.array_equal(before.x_test, after.x_test)


def test_a_folder_of_any_name_is_a_category(root: Path) -> None:
    (root / "bottle").rename(root / "Öl 2")
    assert len(read_category(str(root), "O\u0308l 2").train) == TRAIN


def test_a_changed_folder_is_refused(load: Callable[..., Source], root: Path) -> None:
    with pytest.raises(DeepSADError, match="has changed since this run was planned"):
        load(digest="0" * 64)


@pytest.mark.parametrize("where", [None, "", "nowhere"])
def test_a_missing_root_is_reported_with_the_source_of_the_data(where: str | None) -> None:
    (problem,) = problems_of(where)
    assert problem.startswith("dataset.root is ")
    assert URL in problem
    assert "<root>/<category>/train/good/*.png" in problem


def test_the_folder_of_one_category_is_refused_as_root(root: Path) -> None:
    (problem,) = problems_of(root / "bottle")
    assert problem.endswith(f"use dataset.root={root} dataset.category=bottle")


def test_a_folder_without_categories_is_reported_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (problem,) = problems_of(tmp_path)
    assert "which has no folder of a category; give the folder that has <root>/<category>/train/good/*.png" in problem


@pytest.mark.parametrize(
    ("category", "way_out"),
    [
        ("botle", "did you mean bottle?"),
        ("metalnut", "did you mean metal_nut?"),
        ("7", "choose one of bottle, metal_nut"),
        ("wood", f"choose one of bottle, metal_nut, or get the others from {URL}"),
    ],
)
def test_a_wrong_category_is_reported_with_the_existing_ones(root: Path, category: str, way_out: str) -> None:
    (root / "licenses").mkdir()
    (problem,) = problems_of(root, category)
    assert problem == f"dataset.category is {category!r}, but {root} has no such folder; {way_out}"


def test_the_category_is_required(root: Path) -> None:
    assert problems_of(root, None) == ["dataset.category is not set; choose one of bottle, metal_nut"]


def test_there_are_fifteen_categories() -> None:
    assert len(CATEGORIES) == 15


def test_another_layout_is_reported(root: Path) -> None:
    bottle = root / "bottle"
    (bottle / "train" / "good").rename(bottle / "train" / "fine")
    first, second = problems_of(root)
    assert first.startswith(f"{bottle}/train/good holds no image; ")
    assert second.startswith(f"{bottle}/train has images of 'fine' besides good; ")
    shutil.rmtree(bottle / "test")
    (problem,) = problems_of(root)
    assert problem.startswith(f"{bottle} has no folder test; ")
    (bottle / "test" / "good").mkdir(parents=True)
    assert any(problem.startswith(f"{bottle}/test holds no image; ") for problem in problems_of(root))


def test_wrong_defects_are_reported_at_once(root: Path) -> None:
    assert problems_of(root, "bottle", "hol", "good", "dent", "hole", "hole") == [
        f"dataset.labeled_defects names 'hol', of which {root}/bottle/test has no image; did you mean hole?",
        "dataset.labeled_defects names good, which is not a defect; leave it out",
        f"dataset.labeled_defects names 'dent', of which {root}/bottle/test has no image; choose from hole, scratch",
        "dataset.labeled_defects names hole more than once; name each defect once",
    ]


def test_too_many_labeled_images_are_reported_with_the_numbers(root: Path, load: Callable[..., Source]) -> None:
    said = "dataset.labeled_images=12 labels 6 images of the defect 'scratch', but it has 5; use at most "
    assert problems_of(root, "bottle", "scratch", "hole", total=12) == [f"{said}dataset.labeled_images=11"]
    with pytest.raises(DeepSADError, match="labels 6 images of the defect 'scratch', but it has 5"):
        load("hole", "scratch", labeled_images=12)


def test_without_labeled_defects_their_number_does_not_matter(root: Path) -> None:
    assert problems_of(root, total=1000) == []
