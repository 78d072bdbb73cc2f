"""Labels from the names of folders in an image folder, and errors if they are not clear."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from image_labels import touch

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.folder_labels import FolderLabels, folder_labels

USUAL = (
    "train/unlabeled/0.png",
    "train/normal/0.png",
    "train/anomaly/0.png",
    "test/normal/0.png",
    "test/anomaly/0.png",
)


def problems(root: Path, normal: Sequence[object] | None = None, anomaly: Sequence[object] | None = None) -> list[str]:
    with pytest.raises(DeepSADError) as caught:
        folder_labels(root, normal, anomaly)
    return caught.value.problems


def test_by_default_existing_folders_normal_and_anomaly_are_labels(tmp_path: Path) -> None:
    assert folder_labels(touch(tmp_path / "a", *USUAL), None, None) == FolderLabels(("normal",), ("anomaly",))
    assert folder_labels(touch(tmp_path / "b", "train/0.png"), None, None) == FolderLabels((), ())
    assert folder_labels(touch(tmp_path / "c", "train/x/0.png", "train/anomaly/"), None, None) == FolderLabels((), ())


def test_named_folders_are_labels_and_all_others_are_not(tmp_path: Path) -> None:
    touch(tmp_path, *USUAL, "train/good/0.png", "train/hole/a/b/0.png")
    labels = folder_labels(tmp_path, ["good", "normal"], ["hole"])
    assert labels == FolderLabels(("good", "normal"), ("hole",))
    names = ["train/0.png", "train/good/0.png", "train/hole/a/b/0.png", "train/anomaly/0.png", "train/x/good/0.png"]
    assert labels.semi_labels(names).tolist() == [0, 1, -1, 0, 0]
    assert labels.truths([name.replace("train", "test") for name in names]).tolist() == [-1, 0, 1, 1, 1]


def test_nothing_is_normal_if_the_list_is_empty(tmp_path: Path) -> None:
    touch(tmp_path, "train/normal/0.png", "train/unlabeled/0.png")
    assert folder_labels(tmp_path, [], None) == FolderLabels((), ())


def test_a_normal_folder_may_be_only_in_the_test_part(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "test/good/0.png", "test/hole/0.png")
    assert folder_labels(tmp_path, ["good"], None) == FolderLabels(("good",), ())


@pytest.mark.parametrize("name", ["007", "1_0", "true", "null", "1e3", "Öl 2"])
def test_a_folder_name_is_text(tmp_path: Path, name: str) -> None:
    from omegaconf import OmegaConf

    touch(tmp_path, "train/0.png", f"train/{name}/0.png")
    in_yaml = OmegaConf.create(f"[{name}]")[0]
    for value in (name, in_yaml):
        assert folder_labels(tmp_path, None, [value]).anomaly == (name,)


def test_a_name_that_could_mean_two_folders_has_to_be_quoted(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "train/10/0.png", "train/1_0/0.png")
    (told,) = problems(tmp_path, None, [10])
    assert told == (
        "dataset.anomaly names 10, which could mean any of the folders 10, 1_0; quote the one you mean: "
        """'"10"' on the command line, "10" in YAML"""
    )
    assert folder_labels(tmp_path, None, ["1_0"]).anomaly == ("1_0",)


def test_both_unicode_forms_of_a_letter_are_one_name(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Öl") for form in ("NFC", "NFD"))
    touch(tmp_path, "train/0.png", f"train/{nfd}/0.png")
    for name in (nfc, nfd):
        labels = folder_labels(tmp_path, None, [name])
        assert labels.anomaly == (nfc,)
        assert labels.semi_labels([f"train/{nfd}/0.png"]).tolist() == [-1]


def test_a_missing_folder_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    touch(tmp_path, *USUAL, "train/scrap/0.png", "test/dust/0.png", "train/empty/")
    told = problems(tmp_path, ["norml"], ["scrapp", "dust", "empty"])
    assert told == [
        "dataset.normal names the folder 'norml', but the folders of train/ and test/ are anomaly, dust, empty, "
        "normal, scrap, unlabeled; did you mean normal?",
        "dataset.anomaly names the folder 'scrapp', but the folders of train/ are anomaly, empty, normal, scrap, "
        "unlabeled; did you mean scrap?",
        "dataset.anomaly names the folder 'dust', but the folders of train/ are anomaly, empty, normal, scrap, "
        "unlabeled; name one of these, or leave it out",
        "dataset.anomaly names the folder 'empty', which holds no image; put images into it, or leave it out",
        f"{tmp_path / 'test'} has the folders anomaly, dust, normal, and dataset.normal names none of them, so that "
        "every image with a known truth would be an anomaly; name the normal ones, such as dataset.normal=[anomaly]",
    ]


def test_a_folder_with_two_meanings_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *USUAL)
    (told,) = problems(tmp_path, ["normal"], ["anomaly", "normal"])
    assert told == "dataset.normal and dataset.anomaly both name 'normal'; remove it from one of them"
    (told,) = problems(tmp_path, None, ["normal"])
    assert "both name 'normal' (dataset.normal is [normal] by default)" in told


@pytest.mark.parametrize("place", ["train", "test"])
def test_a_folder_that_differs_from_a_named_one_only_in_case_is_refused(tmp_path: Path, place: str) -> None:
    touch(tmp_path, *USUAL, f"{place}/Normal/0.png")
    (told,) = problems(tmp_path)
    assert told == (
        "dataset.normal names the folder 'normal' by default, but there is 'Normal', which "
        "differs only in case; name it in dataset.normal, or rename it"
    )
    assert folder_labels(tmp_path, ["normal", "Normal"], None).normal == ("Normal", "normal")


def test_any_test_folder_may_have_the_name_of_an_anomaly(tmp_path: Path) -> None:
    labels = folder_labels(touch(tmp_path, *USUAL, "test/Anomaly/0.png"), None, None)
    assert labels.truths(["test/Anomaly/0.png"]).tolist() == [1]


def test_training_images_that_are_all_anomalies_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/anomaly/0.png", "train/unlabeled/")
    (told,) = problems(tmp_path)
    assert told.startswith(f"all images in {tmp_path / 'train'} are labeled anomalies (anomaly); put unlabeled images")
    touch(tmp_path, "train/0.png")
    assert folder_labels(tmp_path, None, None).anomaly == ("anomaly",)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_images_is_refused(tmp_path: Path, part: str) -> None:
    touch(tmp_path, *(name for name in USUAL if not name.startswith(part)), f"{part}/x/", f"{part}/.hidden.png")
    (told,) = problems(tmp_path)
    assert told.startswith(f"dataset.root: {tmp_path / part} holds no image; put")


def test_a_test_part_without_a_known_normal_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/0.png", "test/good/0.png", "test/bad/0.png")
    (told,) = problems(tmp_path)
    assert "has the folders bad, good, and dataset.normal names none of them" in told
    # Folders that are named as anomalies are meant to be anomalies.
    touch(tmp_path / "other", "train/0.png", "train/bad/0.png", "test/bad/0.png", "test/0.png")
    assert folder_labels(tmp_path / "other", None, ["bad"]).truths(["test/bad/0.png"]).tolist() == [1]


def test_a_test_folder_called_unlabeled_is_refused(tmp_path: Path) -> None:
    (told,) = problems(touch(tmp_path, *USUAL, "test/unlabeled/0.png"))
    assert "would count as anomalies" in told and "straight below test/" in told


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "there is no folder"),
        (("test/0.png",), "there is no folder"),
        (("Train/0.png",), "has a folder Train, but it must be called train; rename it"),
        (("train/0.png", "Test/0.png"), "has a folder Test, but it must be called test; rename it"),
        (("train/0.png", "test"), "test is not a folder"),
    ],
)
def test_a_wrong_layout_is_reported(tmp_path: Path, names: Sequence[str], told: str) -> None:
    (problem,) = problems(touch(tmp_path / "root", *names))
    assert problem.startswith("dataset.root: ") and told in problem
