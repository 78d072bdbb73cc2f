"""Image folders with labels: what is listed, what the identity contains, and the source."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_labels import PARTS, touch, write_labeled
from planned import plan_of, problems_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import image_folder, labeled_images
from deepsad_pl.data.image_folder import content_digest, image_folder_arrays, looked_at_once, scan
from deepsad_pl.data.labeled_images import image_folder_problems, labeled_identity, list_labeled
from deepsad_pl.data.sources import Source, image_folder_source
from deepsad_pl.stacked.experiments import _source_of

NAMES = ("train/b.png", "train/a.png", "train/x/0.png", "train/x/sub/0.png", "train/normal/0.png", "test/0.png")


def source_of(root: Path, **settings: Any) -> Source:
    data_dir = root.parent / "data"
    return image_folder_source(str(root), image_size=8, channels=1, data_dir=data_dir, given=True, **settings)


def words_of(root: Path, *words: str) -> tuple[str, ...]:
    where = ("dataset=image_folder", f"dataset.root={root}", "dataset.image_size=16", "scenario=given")
    return (*where, f"data_dir={root.parent / 'data'}", *words)


def test_images_straight_below_a_part_come_first(tmp_path: Path) -> None:
    touch(tmp_path, *NAMES, "train/notes.txt", "train/.hidden.png", "validation/0.png")
    (tmp_path / "train" / "gone.png").symlink_to("nowhere")
    listing = list_labeled(tmp_path)
    train = ["train/a.png", "train/b.png", "train/normal/0.png", "train/x/0.png", "train/x/sub/0.png"]
    assert listing.names_of("train") == train
    assert listing.names == [*train, "test/0.png"]
    assert listing.skipped == {"no images": ["train/notes.txt"], "broken links": ["train/gone.png"]}


def test_the_test_part_may_be_missing(tmp_path: Path) -> None:
    listing = list_labeled(touch(tmp_path, "train/0.png"))
    assert (listing.names_of("train"), listing.names_of("test")) == (["train/0.png"], [])


def test_classes_still_have_no_images_straight_below_a_part(tmp_path: Path) -> None:
    touch(tmp_path, *NAMES, "test/x/0.png")
    listing = scan(tmp_path)
    assert listing.names == ["train/normal/0.png", "train/x/0.png", "train/x/sub/0.png", "test/x/0.png"]
    assert sorted(listing.skipped["outside the class folders"]) == ["test/0.png", "train/a.png", "train/b.png"]


def test_a_source_has_the_labels_of_the_folders(tmp_path: Path) -> None:
    source = source_of(write_labeled(tmp_path / "root"))
    assert source.semi_y_train is not None and source.ids_test is not None
    # Straight below the part, then by folder: anomaly, normal, unlabeled.
    assert source.semi_y_train.tolist() == [0] * 20 + [-1] * 8 + [1] * 12 + [0] * 120
    assert source.labels_train.tolist() == [0] * 20 + [1] * 8 + [0] * 132
    assert source.labels_test.tolist() == [-1] * 5 + [1] * 6 + [0] * 20
    assert source.ids_test[[0, 5, 11]].tolist() == ["test/000.png", "test/anomaly/000.png", "test/normal/000.png"]
    bright = source.x_train.max(axis=(1, 2, 3)) > 200
    assert bright.tolist() == (source.semi_y_train == -1).tolist()


def test_without_a_test_part_the_training_images_are_scored(tmp_path: Path) -> None:
    source = source_of(write_labeled(tmp_path / "root", {"train": PARTS["train"]}))
    assert source.ids_test is not None
    assert source.x_test is source.x_train
    assert source.labels_test.tolist() == [-1] * 160
    assert source.ids_test[-1] == "train/unlabeled/119.png"


def test_pixels_equal_those_of_the_same_images_read_as_classes(tmp_path: Path) -> None:
    counts = {part: {name: n for name, n in of_part.items() if name} for part, of_part in PARTS.items()}
    root = write_labeled(tmp_path / "root", counts)
    source = source_of(root)
    cache = tmp_path / "data" / "cache"
    assert content_digest(root, cache, list_labeled(root)) == content_digest(root, cache), "and they are cached once"
    x_train, _, x_test, _ = image_folder_arrays(root, cache, image_size=(8, 8), channels=1)
    assert np.array_equal(x_train, source.x_train) and np.array_equal(x_test, source.x_test)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_a_folder_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "root", {"train": {"": 3}})
    digest = labeled_identity({"root": str(root)}, tmp_path / "data" / "cache")["files"]
    assert len(source_of(root, digest=digest).x_train) == 3
    write_labeled(root, {"train": {"": 4}}, seed=1)
    with pytest.raises(DeepSADError, match="has changed since this run was planned"):
        source_of(root, digest=digest)


def test_the_identity_depends_on_content_and_meaning(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "a")
    write_labeled(tmp_path / "b")

    def name(folder: Path, *words: str) -> str:
        return plan_of(*words_of(folder, *words)).run_dir.name

    usual = name(root)
    assert usual == name(tmp_path / "b") == name(root, "dataset.normal=[normal]", "dataset.anomaly=[anomaly]")
    assert usual != name(root, "dataset.normal=[normal]", "dataset.anomaly=[]")
    assert usual != name(root, "dataset.normal=[normal,unlabeled]")
    (tmp_path / "b" / "train" / "020.png").write_bytes((root / "test" / "000.png").read_bytes())
    assert usual != name(tmp_path / "b")
    assert plan_of(*words_of(root)).identity["dataset"]["labels"] == {"normal": ["normal"], "anomaly": ["anomaly"]}


def test_a_drawing_scenario_ignores_the_settings_of_labels(tmp_path: Path) -> None:
    root = write_labeled(tmp_path / "root")
    words = (*words_of(root)[:3], f"data_dir={tmp_path / 'data'}", "scenario.normal_class=normal")
    words = (*words, "scenario.anomaly_class=anomaly")
    plan = plan_of(*words)
    assert plan.identity["dataset"].keys() == {"kind", "channels", "network", "image_size", "files"}
    told = problems_of(*words, "dataset.anomaly=[anomaly]", "dataset.normal=[]")
    assert told == [
        f"dataset.{key} is {value}, but it names folders with labels, which only scenario=given uses; choose "
        f"scenario=given, or leave it out and set scenario.{key}_class"
        for key, value in (("normal", []), ("anomaly", ["anomaly"]))
    ]


def test_experiments_with_drawn_and_with_given_labels_do_not_share_their_data(tmp_path: Path) -> None:
    counts = {part: {"normal": 4, "anomaly": 3} for part in ("train", "test")}
    words = words_of(write_labeled(tmp_path / "root", counts))
    given = plan_of(*words)
    classes = ("scenario.normal_class=normal", "scenario.anomaly_class=anomaly")
    drawn = plan_of(*(word for word in words if word != "scenario=given"), *classes)
    assert given.identity["dataset"]["files"] == drawn.identity["dataset"]["files"]
    known: dict[str, Source] = {}
    assert _source_of(drawn, known).semi_y_train is None
    assert _source_of(given, known).semi_y_train is not None


def test_all_problems_are_reported_before_any_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path / "root", "train/normal/0.png", "train/scrap/0.png")
    monkeypatch.setattr(image_folder, "file_digests", lambda *args, **kwargs: pytest.fail("images are read"))
    told = problems_of(*words_of(root, "dataset.anomaly=[scrapp]", "dataset.channels=2", "seed=-1"))
    assert [one.partition(" ")[0] for one in told] == ["dataset.channels", "dataset.anomaly", "seed"]
    (told_of_type,) = problems_of(*words_of(root, "dataset.anomaly=scrap"))
    assert told_of_type == "dataset.anomaly is 'scrap'; it must be a list, such as dataset.anomaly=[scrap]"
    (told_of_root,) = problems_of(*words_of(tmp_path / "no"))
    assert told_of_root.startswith(f"dataset.root: there is no folder {tmp_path / 'no'}; choose a folder with train/{{")


def test_an_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path / "root", "train/0.png")

    def denied(root: Path, part: str) -> dict[str, str]:
        raise PermissionError(13, "Permission denied", str(root / part))

    monkeypatch.setattr("deepsad_pl.data.folder_labels.class_folders", denied)
    (told,) = image_folder_problems({"root": str(root)}, given=True)
    assert told == f"dataset.root: {root / 'train'} cannot be read (Permission denied); make it readable or remove it"


def test_a_folder_is_listed_once_for_all_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_labeled(tmp_path / "root")
    walks: list[Path] = []
    monkeypatch.setattr(labeled_images, "list_labeled", lambda root: walks.append(root) or list_labeled(root))
    with looked_at_once():
        folders = {plan_of(*words_of(root, f"seed={seed}")).run_dir for seed in range(3)}
    assert (len(folders), len(walks)) == (3, 1)
