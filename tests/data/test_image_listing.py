"""What is read from a folder of images, and what is left out."""

import os
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from deepsad_pl.data.image_listing import Listing, holds_images, list_images

CLASSES = ["a", "b"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/sub/2.png", "a/sub/1.png", "a/sub-2/1.png", "a/x/y/z.png", "a/a.png", "b/1.png"):
        path = tmp_path / "root" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path)
    return tmp_path / "root"


def listed(root: Path) -> Listing:
    return list_images(root, {"train": CLASSES})


def test_images_and_their_order_agree_with_torchvision(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "elsewhere" / "far.PNG")
    (root / "train" / "b" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "b" / "file.png").symlink_to(tmp_path / "elsewhere" / "far.PNG")
    (root / "train" / "b" / "README.md").touch()
    samples = ImageFolder(str(root / "train")).samples
    expected = [[str(Path(path).relative_to(root)) for path, label in samples if label == i] for i in range(2)]
    assert listed(root).images == {"train": expected}
    assert listed(root).skipped == {"no images": ["train/b/README.md"]}
    assert listed(root).names == [*expected[0], *expected[1]]


def test_hidden_files_are_skipped_silently(root: Path) -> None:
    before = listed(root)
    (root / "train" / "a" / ".thumbnails").mkdir()
    for name in (".thumbnails/1.png", ".DS_Store", "sub/._2.png"):
        (root / "train" / "a" / name).touch()
    (root / "train" / ".link").symlink_to("nowhere")
    assert listed(root) == before


@pytest.mark.parametrize("target", ["nowhere", "gone.png", "../gone.png"])
@pytest.mark.parametrize("place", ["gone.png", "a/gone.png", "a/sub/gone.png"])
def test_broken_links_are_skipped(root: Path, place: str, target: str) -> None:
    before = listed(root)
    (root / "train" / place).symlink_to(target)
    assert listed(root).images == before.images
    assert listed(root).skipped == {"broken links": [f"train/{place}"]}


@pytest.mark.parametrize("around", [".", "train", "train/a", "train/a/x", "train/a/x/y"])
def test_a_link_to_a_folder_around_it_is_skipped(root: Path, around: str) -> None:
    before = listed(root)
    (root / "train" / "a" / "x" / "y" / "back").symlink_to(root / around)
    assert listed(root).images == before.images
    assert listed(root).skipped == {"links to a parent folder": ["train/a/x/y/back"]}


def test_a_class_that_is_a_link_to_the_part_is_skipped(root: Path) -> None:
    (root / "train" / "c").symlink_to(root / "train")
    found = list_images(root, {"train": [*CLASSES, "c"]})
    assert found.images["train"] == [*listed(root).images["train"], []]
    assert found.skipped == {"links to a parent folder": ["train/c"]}


def test_a_class_without_a_folder_has_no_images(root: Path) -> None:
    assert list_images(root, {"train": ["a", None, "b"]}).images["train"][1] == []


def test_folders_with_images_are_recognized(root: Path) -> None:
    (root / "train" / "b" / "1.png").unlink()
    (root / "train" / "b" / "back").symlink_to(root / "train" / "b")
    (root / "train" / "b" / "notes.txt").touch()
    assert [holds_images(root, folder) for folder in ("train/a", "train/a/x", "train/b")] == [True, True, False]


def test_a_folder_that_is_linked_twice_is_read_twice(root: Path) -> None:
    for name in ("one", "two"):
        (root / "train" / "b" / name).symlink_to(root / "train" / "a" / "x")
    assert listed(root).images["train"][1] == ["train/b/1.png", "train/b/one/y/z.png", "train/b/two/y/z.png"]
    assert listed(root).skipped == {}


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".TifF", ".pgm", ".webp", ".heic"])
def test_a_file_with_the_suffix_of_an_image_is_one_whatever_it_holds(root: Path, suffix: str) -> None:
    (root / "train" / "b" / f"2{suffix}").write_bytes(b"nothing of the kind")
    assert listed(root).images["train"][1] == ["train/b/1.png", f"train/b/2{suffix}"]


@pytest.mark.parametrize("name", ["2", "png", "2.png~", "2.5", "a0b1.dat"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM"])
def test_a_file_without_such_a_suffix_is_an_image_if_it_holds_one(root: Path, name: str, kind: str) -> None:
    Image.new("RGB", (2, 2)).save(root / "train" / "b" / name, kind)
    assert f"train/b/{name}" in listed(root).images["train"][1]


NO_IMAGES = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
    "labels.csv": b"file,label\n1.png,0\n",
    "notes.txt": b"P5 is what a grey image starts with",  # at which Pillow raises a ValueError
    "empty": b"",
    "features.h5": b"\x89HDF\r\n\x1a\n" + b"\0" * 600,  # whose name Pillow knows, but not its content
    "x.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (0,)}",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_files_that_are_not_images_are_skipped(root: Path, name: str) -> None:
    (root / "train" / "a" / name).write_bytes(NO_IMAGES[name])
    assert listed(root).skipped == {"no images": [f"train/a/{name}"]}


def test_an_image_too_large_to_open_is_not_skipped(root: Path) -> None:
    (root / "train" / "a" / "large").write_bytes(b"P5 100000 100000 255\n")
    assert "train/a/large" in listed(root).names


def test_a_pipe_is_skipped(root: Path) -> None:
    os.mkfifo(root / "train" / "a" / "pipe.png")
    assert listed(root).skipped == {"no images": ["train/a/pipe.png"]}
