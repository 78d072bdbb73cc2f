"""A folder of images: its classes, the decoding, the cache."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image
from planned import plan_of
from tiny_data import IMAGES_PER_CLASS, write_image_folder

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data import digests, image_folder, pixels
from deepsad_pl.data.image_folder import class_names, content_digest, image_folder_arrays
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import load_data
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.stacked.experiments import _source_of

SIZE = (16, 16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_image_folder(tmp_path / "images")


@pytest.fixture
def load(root: Path, tmp_path: Path) -> Callable[..., tuple[npt.NDArray[Any], ...]]:
    def arrays(image_size: tuple[int, int] = SIZE, channels: int = 3) -> tuple[npt.NDArray[Any], ...]:
        return image_folder_arrays(root, tmp_path / "cache", image_size=image_size, channels=channels)

    return arrays


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Record every file that is decoded, so that a test sees whether the cache was used."""
    paths: list[Path] = []
    decode = pixels.decode

    def counting(path: Path, content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        paths.append(path)
        return decode(path, content, shape)

    monkeypatch.setattr(pixels, "decode", counting)
    return paths


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files that were just written count as old enough to be remembered."""
    monkeypatch.setattr(digests, "_TICK_NS", -(10**9))


def files_of(root: Path, part: str) -> list[Path]:
    return sorted((root / part).glob("*/*"), key=lambda path: (path.parent.name, path.name))


def test_classes_are_the_sorted_union_of_both_parts(root: Path) -> None:
    for folder in ("train/new", "test/Aa", "test/.hidden"):
        (root / folder).mkdir()
    (root / "train" / "readme.txt").touch()
    assert class_names(root) == ["Aa", "b-side", "new", "zebra", "Öl 2"]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("image_size", [SIZE, (9, 24)])
def test_every_image_is_decoded_as_by_pillow(
    root: Path, load: Any, image_size: tuple[int, int], channels: int, mode: str
) -> None:
    arrays = load(image_size, channels)
    for part, images in (("train", arrays[0]), ("test", arrays[2])):
        paths = files_of(root, part)
        assert images.shape == (len(paths), channels, *image_size)
        assert images.dtype == np.uint8
        for path, image in zip(paths, images, strict=True):
            expected = Image.open(path).convert(mode)
            if expected.size != image_size[::-1]:
                expected = expected.resize(image_size[::-1], Image.Resampling.BILINEAR)
            pixels = np.array(expected).reshape(*image_size, channels)
            assert np.array_equal(image, pixels.transpose(2, 0, 1)), path


def test_labels_are_indices_into_the_classes(root: Path, load: Any) -> None:
    classes = class_names(root)
    _, labels_train, _, labels_test = load()
    for part, labels in (("train", labels_train), ("test", labels_test)):
        assert [classes[i] for i in labels] == [path.parent.name for path in files_of(root, part)]
        assert {classes[i]: n for i, n in enumerate(np.bincount(labels))} == IMAGES_PER_CLASS[part]


def test_a_class_may_be_missing_from_one_part(root: Path, load: Any) -> None:
    shutil.rmtree(root / "train" / "b-side")
    _, labels_train, _, labels_test = load()
    assert set(labels_train) == {1, 2}
    assert set(labels_test) == {0, 1, 2}


def test_hidden_files_and_other_folders_are_left_out(root: Path, load: Any) -> None:
    before = [len(array) for array in load()]
    (root / "train" / "zebra" / ".DS_Store").write_bytes(b"no image")
    (root / "train" / "zebra" / "thumbnails").mkdir()
    (root / "validation").mkdir()
    assert [len(array) for array in load()] == before


def test_images_lie_in_a_memory_map(load: Any) -> None:
    x_train, _, x_test, _ = load()
    assert isinstance(x_train, np.memmap)
    assert isinstance(x_test, np.memmap)


def test_the_cache_is_used_again(load: Any, decoded: list[Path]) -> None:
    first = load()
    assert len(decoded) == sum(len(labels) for labels in first[1::2])
    decoded.clear()
    second = load()
    assert decoded == []
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_cache_is_used_where_the_folder_moved(root: Path, load: Any, decoded: list[Path], tmp_path: Path) -> None:
    first = load()
    decoded.clear()
    root.rename(tmp_path / "moved")
    second = image_folder_arrays(tmp_path / "moved", tmp_path / "cache", image_size=SIZE, channels=3)
    assert decoded == []
    assert np.array_equal(first[0], second[0])


def test_another_size_or_number_of_channels_decodes_again(load: Any, decoded: list[Path]) -> None:
    load()
    for image_size, channels in (((8, 16), 3), ((16, 8), 3), (SIZE, 1)):
        decoded.clear()
        assert load(image_size, channels)[0].shape[1:] == (channels, *image_size)
        assert decoded


def test_a_changed_image_is_decoded_again(root: Path, load: Any) -> None:
    load()
    path = files_of(root, "train")[0]
    Image.new("RGB", SIZE, (1, 2, 3)).save(path)
    assert load()[0][0, :, 5, 5].tolist() == [1, 2, 3]


def brightness(root: Path, value: int) -> Path:
    """A folder of uncompressed images of the same age, whose file sizes do not depend on their content."""
    for part in ("train", "test"):
        (root / part / "a").mkdir(parents=True)
        path = root / part / "a" / "0.bmp"
        Image.new("L", SIZE, value).save(path)
        os.utime(path, ns=(10**18, 10**18))
    return root


def test_folders_with_equal_names_sizes_and_times_are_distinguished(tmp_path: Path, at_rest: None) -> None:
    for value in (10, 200):
        x_train, _, x_test, _ = image_folder_arrays(
            brightness(tmp_path / str(value), value), tmp_path / "cache", image_size=SIZE, channels=1
        )
        assert np.unique(x_train).tolist() == np.unique(x_test).tolist() == [value]
    ten, two_hundred = (content_digest(tmp_path / str(value), tmp_path / "cache") for value in (10, 200))
    assert ten != two_hundred


@pytest.mark.parametrize("way", ["copy over", "swap"])
def test_replaced_images_of_equal_name_size_and_time_are_detected(tmp_path: Path, at_rest: None, way: str) -> None:
    dark, bright = (brightness(tmp_path / str(value), value) for value in (10, 200))
    before = content_digest(dark, tmp_path / "cache")
    if way == "swap":
        dark.rename(tmp_path / "before")
        bright.rename(dark)
    else:
        for path in files_of(bright, "train") + files_of(bright, "test"):
            shutil.copy2(path, dark / path.relative_to(bright))
    assert content_digest(dark, tmp_path / "cache") != before
    x_train, *_ = image_folder_arrays(dark, tmp_path / "cache", image_size=SIZE, channels=1)
    assert np.unique(x_train).tolist() == [200]


def test_a_folder_that_is_only_touched_is_not_decoded_again(root: Path, load: Any, decoded: list[Path]) -> None:
    load()
    decoded.clear()
    for path in files_of(root, "train"):
        path.touch()
    load()
    assert decoded == []


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_added_image_is_detected(root: Path, load: Any, part: str) -> None:
    before = load()
    Image.new("L", (3, 3)).save(root / part / "zebra" / "new.gif")
    after = load()
    grown = {"train": 0, "test": 2}[part]
    assert len(after[grown]) == len(before[grown]) + 1
    assert len(after[grown + 1]) == len(after[grown])


def test_a_removed_image_is_detected(root: Path, load: Any) -> None:
    before = load()
    files_of(root, "test")[0].unlink()
    assert len(load()[2]) == len(before[2]) - 1


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"text": b"no image", "empty": b"", "half": content[: len(content) // 2]}[how])


@pytest.mark.parametrize("how", ["text", "empty", "half"])
@pytest.mark.parametrize("index", range(6))
def test_a_damaged_image_is_named_and_leaves_no_cache(
    root: Path, load: Any, tmp_path: Path, how: str, index: int
) -> None:
    path = files_of(root, "train")[index]
    intact = path.read_bytes()
    damage(path, how)
    with pytest.raises(DeepSADError, match="repair or remove it") as caught:
        load()
    assert str(path) in str(caught.value)
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]
    path.write_bytes(intact)
    assert len(load()[0]) == 27


def test_a_killed_decoding_leaves_no_cache(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(path: Path, content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load()
    assert not [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]
    assert len(load()[0]) == 27


@pytest.mark.parametrize("missing", [".", "train", "test"])
def test_a_missing_folder_is_named(root: Path, load: Any, missing: str) -> None:
    shutil.rmtree(root / missing)
    with pytest.raises(DeepSADError, match="train/<class>") as caught:
        load()
    assert f"dataset.root: there is no folder {root / missing};" in str(caught.value)


def test_a_root_without_classes_is_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / "flat" / part).mkdir(parents=True)
        Image.new("L", SIZE).save(tmp_path / "flat" / part / "0.png")
    with pytest.raises(DeepSADError, match="one folder of images for each class"):
        class_names(tmp_path / "flat")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_images_is_refused(root: Path, load: Any, part: str) -> None:
    for path in files_of(root, part):
        path.unlink()
    with pytest.raises(DeepSADError, match="holds no image") as caught:
        load()
    assert str(root / part) in str(caught.value)


def test_the_digest_does_not_depend_on_the_folders_path(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    assert content_digest(copy, tmp_path / "cache") == content_digest(root, tmp_path / "cache")


def test_the_digest_is_stored_and_reused(
    root: Path, tmp_path: Path, at_rest: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = content_digest(root, tmp_path / "cache")
    monkeypatch.setattr(digests, "_read", lambda path: pytest.fail(f"{path} is read again"))
    monkeypatch.setattr(Image, "open", lambda path: pytest.fail(f"{path} is opened again"))
    assert content_digest(root, tmp_path / "cache") == digest


@pytest.mark.parametrize("change", ["grow", "rename", "add", "move", "overwrite"])
def test_the_digest_depends_on_the_content(root: Path, tmp_path: Path, change: str) -> None:
    before = content_digest(root, tmp_path / "cache")
    path = files_of(root, "train")[0]
    if change == "grow":
        path.write_bytes(path.read_bytes() + b"\0")
    elif change == "overwrite":
        path.write_bytes(path.read_bytes()[::-1])
    elif change == "rename":
        path.rename(path.with_name("renamed.png"))
    elif change == "add":
        shutil.copy(path, path.with_name("more.png"))
    else:
        path.rename(root / "train" / "zebra" / "moved.png")
    assert content_digest(root, tmp_path / "cache") != before


def test_the_cache_follows_the_umask(load: Any, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        load()
    finally:
        os.umask(before)
    (folder,) = (entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o755


def folder_digest(root: Path) -> str:
    """The digest of the first pixel format, computed independently."""
    files = [
        [str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()]
        for part in ("train", "test")
        for path in files_of(root, part)
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def test_a_folder_with_unchanged_pixels_keeps_its_digest(root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full(SIZE, 40_000, np.uint16)).save(root / "train" / "zebra" / "deep.png")
    assert content_digest(root, tmp_path / "cache") == folder_digest(root)


@pytest.mark.parametrize("what", ["turned", "deep"])
def test_a_folder_with_corrected_pixels_has_another_digest(root: Path, tmp_path: Path, what: str) -> None:
    if what == "turned":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.new("RGB", SIZE).save(root / "train" / "zebra" / "turned.jpg", exif=exif)
    else:
        (root / "train" / "zebra" / "deep.pgm").write_bytes(b"P5 1 1 65535\n\x80\x00")
    first = content_digest(root, tmp_path / "cache")
    assert first != folder_digest(root)
    assert first == content_digest(root, tmp_path / "cache") == content_digest(root, tmp_path / "other cache")


@pytest.mark.parametrize("damaged", [b"", b"\xff\x00", b"0" * 64])
def test_a_damaged_note_about_the_pixels_is_rewritten(root: Path, tmp_path: Path, damaged: bytes) -> None:
    digest = content_digest(root, tmp_path / "cache")
    (note,) = (tmp_path / "cache").glob("pixels-*")
    note.write_bytes(damaged)
    assert content_digest(root, tmp_path / "cache") == digest
    assert note.read_text() == digest


def test_a_folder_that_changed_since_the_plan_is_refused(root: Path, tmp_path: Path) -> None:
    planned = content_digest(root, tmp_path / "cache")
    shutil.copy(files_of(root, "train")[0], root / "train" / "zebra" / "new.png")
    with pytest.raises(DeepSADError, match="has changed since this run was planned; start it again"):
        image_folder_arrays(root, tmp_path / "cache", image_size=SIZE, channels=3, digest=planned)


def test_a_run_uses_the_images_of_its_plan(root: Path, tmp_path: Path) -> None:
    def planned() -> Plan:
        words = ("dataset=image_folder", f"dataset.root={root}", "dataset.image_size=8", f"data_dir={tmp_path}")
        return plan_of(*words, "scenario.normal_class=zebra", "scenario.anomaly_class=b-side")

    before = planned()
    sources: dict[str, Source] = {}
    assert len(load_data(before).x_train) == len(_source_of(before, sources).x_train) == 27
    shutil.copy(files_of(root, "train")[0], root / "train" / "zebra" / "new.png")
    with pytest.raises(DeepSADError, match="has changed since this run was planned"):
        load_data(before)
    assert len(_source_of(planned(), sources).x_train) == 28, "not the one that is in memory"


def test_an_image_that_changes_between_digest_and_decoding_is_named(
    root: Path, load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    path = files_of(root, "test")[0]
    real = image_folder.file_digests

    def then_changed(*args: Any, **kwargs: Any) -> list[str]:
        found = real(*args, **kwargs)
        Image.new("L", SIZE).save(path)
        return found

    shutil.rmtree(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "file_digests", then_changed)
        with pytest.raises(DeepSADError, match="has changed while the images were being read") as caught:
            load()
    assert str(path) in str(caught.value)
    assert np.unique(load()[2][0]).tolist() == [0]


def test_a_file_that_cannot_be_read_is_named(root: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files_of(root, "train")[3]

    def denied(root: Path, names: Any, cache: Path, progress: str) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(image_folder, "file_digests", denied)
    with pytest.raises(DeepSADError) as caught:
        load()
    assert str(caught.value) == f"{path} cannot be read (Permission denied); repair or remove it"


def test_skipped_files_are_counted_in_one_line(root: Path, load: Any, caplog: pytest.LogCaptureFixture) -> None:
    load()
    assert caplog.messages == []
    zebra = root / "train" / "zebra"
    (zebra / "gone.png").symlink_to("nowhere")
    (zebra / "round").symlink_to(zebra)
    (zebra / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (zebra / "notes.txt").write_text("no image")
    (root / "test" / "beside.png").write_bytes(b"")
    load()
    assert caplog.messages == [
        f"{root}: skipped 5 files (broken links: 1, such as train/zebra/gone.png; links to a parent folder: 1, "
        "such as train/zebra/round; no images: 2, such as train/zebra/Thumbs.db; outside the class folders: 1, such as "
        "test/beside.png)"
    ]


@pytest.mark.slow
def test_the_real_images_are_read(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "cifar10-jpeg"
    if not root.is_dir():
        pytest.skip("no cifar10-jpeg in DEEPSAD_DATA_DIR")

    def timed() -> tuple[tuple[npt.NDArray[Any], ...], float]:
        start = time.monotonic()
        arrays = image_folder_arrays(root, tmp_path / "cache", image_size=(32, 32), channels=3)
        return arrays, time.monotonic() - start

    first, decoding = timed()
    (x_train, labels_train, x_test, labels_test), from_cache = timed()
    print(f"decoding {decoding:.1f} s, from the cache {from_cache:.2f} s")
    assert class_names(root) == sorted(class_names(root))
    assert x_train.shape == (50_000, 3, 32, 32)
    assert x_test.shape == (10_000, 3, 32, 32)
    assert np.bincount(labels_train).tolist() == [5000] * 10
    assert np.bincount(labels_test).tolist() == [1000] * 10
    assert np.array_equal(first[2], x_test)
    path = files_of(root, "test")[-1]
    assert np.array_equal(x_test[-1], np.array(Image.open(path)).transpose(2, 0, 1))
