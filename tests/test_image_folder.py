"""A folder of images: its classes, the decoding, the cache."""

import os
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tiny_data import IMAGES_PER_CLASS, write_image_folder

from deepsad_pl.data import image_folder
from deepsad_pl.data.image_folder import class_names, content_digest, image_folder_arrays
from deepsad_pl.errors import DeepSADError

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
    """Every file that is decoded, so that a test sees whether the cache was used."""
    paths: list[Path] = []
    decode = image_folder._decode

    def counting(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        paths.append(path)
        return decode(path, shape)

    monkeypatch.setattr(image_folder, "_decode", counting)
    return paths


def files_of(root: Path, part: str) -> list[Path]:
    return sorted((root / part).glob("*/*"), key=lambda path: (path.parent.name, path.name))


def test_classes_are_the_sorted_union_of_both_parts(root: Path) -> None:
    for folder in ("train/new", "test/Aa", "test/.hidden"):
        (root / folder).mkdir()
    (root / "train" / "readme.txt").touch()
    assert class_names(root) == ["Aa", "b-side", "new", "zebra", "Öl 2"]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("image_size", [SIZE, (9, 24)])
def test_every_image_is_what_pillow_makes_of_it(
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


def test_upper_left_pixel_is_first(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 2] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    image = image_folder._decode(tmp_path / "x.png", (3, 2, 3))
    assert image[:, 0, 2].tolist() == [1, 2, 3]
    assert image.sum() == 6


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


def test_another_size_or_channels_decode_anew(load: Any, decoded: list[Path]) -> None:
    load()
    for image_size, channels in (((8, 16), 3), ((16, 8), 3), (SIZE, 1)):
        decoded.clear()
        assert load(image_size, channels)[0].shape[1:] == (channels, *image_size)
        assert decoded


def test_a_changed_image_is_decoded_anew(root: Path, load: Any) -> None:
    load()
    path = files_of(root, "train")[0]
    Image.new("RGB", SIZE, (1, 2, 3)).save(path)
    assert load()[0][0, :, 5, 5].tolist() == [1, 2, 3]


def test_a_change_that_keeps_the_size_is_seen_by_its_time(root: Path, load: Any, decoded: list[Path]) -> None:
    load()
    decoded.clear()
    path = files_of(root, "train")[0]
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    load()
    assert path in decoded


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_added_image_is_seen(root: Path, load: Any, part: str) -> None:
    before = load()
    Image.new("L", (3, 3)).save(root / part / "zebra" / "new.gif")
    after = load()
    grown = {"train": 0, "test": 2}[part]
    assert len(after[grown]) == len(before[grown]) + 1
    assert len(after[grown + 1]) == len(after[grown])


def test_a_removed_image_is_seen(root: Path, load: Any) -> None:
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


@pytest.mark.parametrize("kind", [OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error])
def test_whatever_a_decoder_says_the_image_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    def broken(self: Image.Image, mode: str) -> Image.Image:
        raise kind("damaged")

    path = files_of(root, "train")[0]
    monkeypatch.setattr(Image.Image, "convert", broken)
    with pytest.raises(DeepSADError, match="cannot be read as an image") as caught:
        image_folder._decode(path, (3, *SIZE))
    assert str(path) in str(caught.value)


def test_a_killed_decoding_leaves_no_cache(load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_decode", interrupted)
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


def test_the_digest_does_not_tell_where_the_folder_lies(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    assert content_digest(copy, tmp_path / "cache") == content_digest(root, tmp_path / "cache")


def test_the_digest_is_kept(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = content_digest(root, tmp_path / "cache")
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    assert content_digest(root, tmp_path / "cache") == digest


@pytest.mark.parametrize("change", ["grow", "rename", "add", "move", "overwrite"])
def test_the_digest_tells_the_content(root: Path, tmp_path: Path, change: str) -> None:
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


def test_the_cache_can_be_read_by_whom_the_umask_lets(load: Any, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        load()
    finally:
        os.umask(before)
    (folder,) = (entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir())
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("bits", [8, 16])
def test_a_grey_png_keeps_its_brightness_whatever_its_depth(tmp_path: Path, bits: int) -> None:
    dtype = {8: np.uint8, 16: np.uint16}[bits]
    pixels = (np.full((4, 4), 128) * 257 ** (bits // 8 - 1)).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    image = image_folder._decode(tmp_path / "grey.png", (1, 4, 4))
    assert np.abs(image.astype(int) - 128).max() <= 1


def test_the_real_images(real_data: Path, tmp_path: Path) -> None:
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
