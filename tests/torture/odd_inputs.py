"""Odd tables and images, scored by a detector or trained on: the good rows and images must still get their scores."""

import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
from own_tables import parts
from PIL import Image

from torture.trial import Bench, Ended, Outcome, WrongError, refused, require_sentences, right
from torture.workloads import TABLE, References

WHAT = "odd cells, encodings, columns and files in tables, odd and broken images; scored, and trained on"
_TRAINED = ("trainer=cpu", "trainer.max_epochs=1", "logger=none", "trainer.threads=1")

# Odd cells: only these rows may be affected.
CELLS = (
    *("", " ", "nan", "NaN", "None", "null", "inf", "-inf", "1e308", "-1e308", "1e999", "1e-320", "-0", "0x10", "1,5"),
    *("1_000", "١٢", "ü", "\u200b1", "1\u00a0000", "=1+1", "2020-01-01", "true", "'", "[bold]x", "x" * 100_000, "\x7f"),
)


def _bytes(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def _npz_of_text(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, X=frame["machine"].to_numpy(dtype="U1"))
    return buffer.getvalue()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


# Files that are odd as a whole, with their names.
FILES: dict[str, tuple[str, Callable[[pd.DataFrame], bytes]]] = {
    "an empty file": ("new.csv", lambda _: b""),
    "an empty line": ("new.csv", lambda _: b"\n"),
    "a header only": ("new.csv", lambda frame: _bytes(frame.head(0))),
    "one row": ("new.csv", lambda frame: _bytes(frame.head(1))),
    "no header": ("new.csv", lambda frame: frame.to_csv(index=False, header=False).encode()),
    "a byte order mark": ("new.csv", lambda frame: b"\xef\xbb\xbf" + _bytes(frame)),
    "UTF-16": ("new.csv", lambda frame: frame.to_csv(index=False).encode("utf-16")),
    "bytes that are no text": ("new.csv", lambda frame: _bytes(frame) + b"P9,\xff\xfe,1,1,1,A,True\n"),
    "null bytes": ("new.csv", lambda frame: _bytes(frame).replace(b"A", b"\0", 3)),
    "Windows line ends": ("new.csv", lambda frame: _bytes(frame).replace(b"\n", b"\r\n")),
    "Mac line ends": ("new.csv", lambda frame: _bytes(frame).replace(b"\n", b"\r")),
    "semicolons": ("new.csv", lambda frame: _bytes(frame).replace(b",", b";")),
    "an open quote": ("new.csv", lambda frame: _bytes(frame) + b'"P9,1,1\n'),
    "ragged rows": ("new.csv", lambda frame: _bytes(frame) + b"P9,1\nP10,1,2,3,4,A,True,7,8,9\n"),
    "a column twice": ("new.csv", lambda frame: _bytes(frame).replace(b"sensor_1", b"sensor_0", 1)),
    "a missing column": ("new.csv", lambda frame: _bytes(frame.drop(columns="sensor_2"))),
    "columns in another order": ("new.csv", lambda frame: _bytes(frame[frame.columns[::-1]])),
    "a thousand more columns": ("new.csv", lambda frame: _bytes(_wide(frame))),
    "names that are missing": ("new.csv", lambda frame: _bytes(frame.assign(part=""))),
    "names that occur twice": ("new.csv", lambda frame: _bytes(frame.assign(part="P"))),
    "a gzip file that is none": ("new.csv.gz", _bytes),
    "half a gzip file": ("new.csv.gz", lambda frame: gzip.compress(_bytes(frame))[:-30]),
    "a gzip file": ("new.csv.gz", lambda frame: gzip.compress(_bytes(frame))),
    "CSV called Parquet": ("new.parquet", _bytes),
    "Parquet called CSV": ("new.csv", _parquet),
    "half a Parquet file": ("new.parquet", lambda frame: _parquet(frame)[:-40]),
    "Parquet": ("new.parquet", _parquet),
    "text in .npz": ("new.npz", _npz_of_text),
    "CSV called .npz": ("new.npz", _bytes),
    "CSV called .mat": ("new.mat", _bytes),
    "JSON": ("new.csv", lambda frame: frame.to_json().encode()),
    "an image called CSV": ("new.csv", lambda _: _png()),
}


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    more = pd.DataFrame(np.zeros((len(frame), 1000)), columns=[f"more_{i}" for i in range(1000)])
    return pd.concat([frame, more], axis=1)


def trial(bench: Bench, references: References) -> Outcome:
    return (_odd_cells, _odd_file, _odd_images, _trained_on_cells, _trained_on_file)[bench.turn % 5](bench, references)


def _rows() -> pd.DataFrame:
    return parts(500, seed=1).drop(columns=["quality", "truth"])


def _spoilt(frame: pd.DataFrame, rng: Random, columns: list[str]) -> tuple[pd.DataFrame, list[int], str]:
    """A table with odd cells in a few rows, the positions of these rows, and a text about what was done."""
    frame = frame.astype(object).copy()
    rows = rng.sample(range(len(frame)), rng.randint(1, 8))
    told = []
    for row in rows:
        column, cell = rng.choice(columns), rng.choice(CELLS)
        frame.loc[row, column] = cell
        told.append(f"{column}={cell[:12]!r}")
    return frame, rows, ", ".join(told)


def _odd_cells(bench: Bench, references: References) -> Outcome:
    """Rows without an odd cell must get the scores that they get without the odd rows."""
    references.of("score")
    references.put("score", bench.folder)
    columns = ["sensor_0", "sensor_1", "sensor_3", "machine", "checked"]
    frame, rows, told = _spoilt(_rows(), bench.rng, columns)
    frame.to_csv(bench.folder / "new.csv", index=False)
    told = f"scored cells {told}"
    ended = bench.run("score.py", *references.words("score"))
    try:
        if not _judged(ended, bench.folder / "out.csv"):
            return refused(f"{told}: {ended.told[:160]}")
        found = pd.read_csv(bench.folder / "out.csv", dtype={"id": str})
        expected = pd.read_csv(references.of("score").after / "out.csv", dtype={"id": str})
        if found["id"].tolist() != expected["id"].tolist():
            raise WrongError("rows are missing from the output")
        if not np.array_equal(found["score"].drop(rows), expected["score"].drop(rows), equal_nan=True):
            raise WrongError("an odd cell changed the scores of other rows")
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)


def _odd_file(bench: Bench, references: References) -> Outcome:
    references.of("score")
    references.put("score", bench.folder)
    (bench.folder / "new.csv").unlink()
    what = bench.rng.choice([*FILES, "a folder", "a broken link", "a link to itself", "no file"])
    name = _put_file(what, bench.folder)
    words = [word.replace("new.csv", name) for word in references.words("score")]
    ended = bench.run("score.py", *words)
    try:
        if not _judged(ended, bench.folder / "out.csv"):
            return refused(f"scored {what}: {ended.told[:160]}")
    except WrongError as error:
        raise WrongError(f"scored {what}: {error}") from None
    return right(f"scored {what}")


def _put_file(what: str, folder: Path, frame: pd.DataFrame | None = None) -> str:
    if what in FILES:
        name, made = FILES[what]
        (folder / name).write_bytes(made(_rows() if frame is None else frame))
        return name
    path = folder / "new.csv"
    if what == "a folder":
        path.mkdir()
    elif what != "no file":
        path.symlink_to(path if what == "a link to itself" else folder / "nothing")
    return path.name


def _judged(ended: Ended, output: Path) -> bool:
    """Whether scoring succeeded.

    Raises:
        WrongError: if it ended like a crash, left an output although it failed, or wrote a score that is no number.
    """
    require_sentences(ended)
    if ended.code == 1:
        if output.exists():
            raise WrongError("it failed, but left an output")
        return False
    scores = pd.to_numeric(pd.read_csv(output, keep_default_na=False, dtype=str)["score"].replace("", "0"))
    if not np.isfinite(scores).all():
        raise WrongError("a score is not finite")
    return True


def _trained_on_cells(bench: Bench, references: References) -> Outcome:
    del references
    frame, _, told = _spoilt(parts(240), bench.rng, ["sensor_0", "sensor_3", "machine", "part", "quality", "truth"])
    frame.to_csv(bench.folder / "parts.csv", index=False)
    return _trained(bench, f"trained on cells {told}", TABLE)


def _trained_on_file(bench: Bench, references: References) -> Outcome:
    del references
    what = bench.rng.choice([*FILES, "a folder", "a broken link", "a link to itself", "no file"])
    name = _put_file(what, bench.folder, parts(240))
    return _trained(bench, f"trained on {what}", tuple(word.replace("parts.csv", name) for word in TABLE))


def _trained(bench: Bench, told: str, words: tuple[str, ...]) -> Outcome:
    try:
        ended = bench.run("train.py", *words, *_TRAINED)
        require_sentences(ended)
        records = list(bench.folder.rglob("metrics.json"))
        if ended.code == 1:
            if records:
                raise WrongError("it failed, but left a record")
            return refused(f"{told}: {ended.told[:160]}")
        auroc = json.loads(records[0].read_text()).get("auroc")
        if not (auroc is None or 0 <= auroc <= 1):
            raise WrongError(f"its AUROC is {auroc}")
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)


def _png(size: tuple[int, int] = (16, 16), mode: str = "RGB", file_format: str = "png") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, file_format)
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG whose header says that it has 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts_ = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts_


def _float_image() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), np.nan, np.float32)).save(buffer, "tiff")
    return buffer.getvalue()


IMAGES: dict[str, tuple[bytes, Callable[[], bytes]]] = {
    "an empty image": (b"a.png", lambda: b""),
    "half an image": (b"b.png", lambda: _png()[:200]),
    "text called PNG": (b"c.png", lambda: b"no image"),
    "JPEG called PNG": (b"d.png", lambda: _png(file_format="jpeg")),
    "one pixel": (b"e.png", lambda: _png((1, 1))),
    "one row of pixels": (b"f.png", lambda: _png((3000, 1))),
    "a bomb of pixels": (b"g.png", _bomb),
    "a float image": (b"h.tiff", _float_image),
    "CMYK": (b"i.jpg", lambda: _png(mode="CMYK", file_format="jpeg")),
    "one bit": (b"j.png", lambda: _png(mode="1")),
    "a GIF": (b"k.gif", lambda: _png(mode="P", file_format="gif")),
    "a name that is no UTF-8": (b"l\xff.png", _png),
    "a name with markup": (b"[bold]m[red].png", _png),
    "a name with a newline": (b"n\n.png", _png),
    "a hidden file": (b".o.png", _png),
    "a changed header": (b"p.png", lambda: _png()[:20] + b"\xff\xff" + _png()[22:]),
}


def _odd_images(bench: Bench, references: References) -> Outcome:
    """Good images must get the scores that they get alone."""
    references.put_finished("photos", bench.folder)
    run, good = references.run_of("photos"), bench.folder / "good"
    good.mkdir()
    for i in range(4):
        (good / f"good_{i}.png").write_bytes(_png((16, 16 + i)))
    words = ("score.py", f"run={run}", "data_dir=data")
    alone = bench.run(*words, "input=good", "output=alone.csv")
    if alone.code != 0:
        raise WrongError(f"good images could not be scored: {alone.told}")
    chosen = bench.rng.sample([*IMAGES], bench.rng.randint(1, 4))
    for what in chosen:
        name, made = IMAGES[what]
        (good / os.fsdecode(name)).write_bytes(made())
    told = f"scored images with {', '.join(chosen)}"
    ended = bench.run(*words, "input=good", "output=out.csv")
    try:
        if not _judged(ended, bench.folder / "out.csv"):
            return refused(f"{told}: {ended.told[:160]}")
        found, expected = (
            pd.read_csv(bench.folder / name).set_index("path")["score"] for name in ("out.csv", "alone.csv")
        )
        if not expected.equals(found.loc[expected.index]):
            raise WrongError("odd images changed the scores of good ones")
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)
