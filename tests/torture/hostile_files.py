"""Files that run code if they are unpickled or imported, wherever a command reads files; none may run."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from torture.trial import Bench, Outcome, WrongError, refused, require_sentences, right
from torture.workloads import TABLE, References

WHAT = "pickles and modules that would run code in checkpoints, caches, detectors, tables, notes and configurations"
CANARY = "canary"


class Evil:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, canary: str) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._canary,)


def plain(canary: str) -> bytes:
    return pickle.dumps(Evil(canary), protocol=2)


def as_checkpoint(canary: str) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "epoch": 3, "hyper_parameters": Evil(canary)}, buffer)
    return buffer.getvalue()


def as_array(canary: str) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def as_arrays(path: Path, canary: str) -> bytes:
    """An archive with the arrays of a file, each replaced by an object array with a pickle."""
    names = list(np.load(path)) if path.exists() else ["X", "y"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", as_array(canary))
    return buffer.getvalue()


def yaml_of(canary: str) -> str:
    return f"!!python/object/apply:os.mkdir [{canary}]\n"


def _one(folder: Path, pattern: str) -> Path:
    return sorted(folder.rglob(pattern))[0]


def _unfinished(folder: Path) -> None:
    for path in (*folder.rglob("metrics.json"), *folder.rglob("scores.csv")):
        path.unlink()


def _signed(detector: Path) -> None:
    """Give ``detector.json`` the digests of what is in the folder, as an attacker would."""
    facts = json.loads((detector / "detector.json").read_text())
    facts["files"] = {name: hashlib.sha256((detector / name).read_bytes()).hexdigest() for name in facts["files"]}
    (detector / "detector.json").write_text(json.dumps(facts))


Command = tuple[str, ...]


def _checkpoint(name: str, made: Callable[[str], bytes]) -> Callable[[Bench, References, str], list[Command]]:
    def put(bench: Bench, references: References, canary: str) -> list[Command]:
        references.put_finished("single", bench.folder)
        _unfinished(bench.folder)
        _one(bench.folder, name).write_bytes(made(canary))
        return [("train.py", *references.words("single"))]

    return put


def _cache(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("single", bench.folder)
    for folder in bench.folder.glob("runs/digits/*/*"):
        folder.rename(bench.folder / "gone")
    content = as_checkpoint(canary)
    _one(bench.folder, "*.bin").write_bytes(hashlib.sha256(content).digest() + content)
    return [("train.py", *references.words("single"))]


def _detector(workload: str, name: str) -> Callable[[Bench, References, str], list[Command]]:
    def put(bench: Bench, references: References, canary: str) -> list[Command]:
        references.put_finished(workload, bench.folder)
        run = references.run_of(workload)
        folder = bench.folder / run / "detector"
        path = folder / name
        path.write_bytes(as_checkpoint(canary) if name.endswith(".ckpt") else as_arrays(path, canary))
        _signed(folder)
        (bench.folder / "new.csv").write_bytes((references.of("score").before / "new.csv").read_bytes())
        source = "input=new.csv" if workload == "table" else "input=numbers.npz"
        np.savez(bench.folder / "numbers.npz", X=np.zeros((3, 64), np.float32))
        words = ("score.py", f"run={run}", source, "output=out.csv")
        return [(*words, "explain=true"), words]

    return put


def _target(bench: Bench, references: References, canary: str) -> list[Command]:
    """A detector that names a class in a module beside it."""
    references.put_finished("table", bench.folder)
    run = references.run_of("table")
    folder = bench.folder / run / "detector"
    for where in (bench.folder, folder, bench.folder / run):
        (where / "evil_module.py").write_text(f"import os\nos.mkdir({canary!r})\nclass Evil: pass\n")
    facts = json.loads((folder / "detector.json").read_text())
    (folder / "detector.json").write_text(json.dumps({**facts, "target": "evil_module.Evil"}))
    (bench.folder / "new.csv").write_bytes((references.of("score").before / "new.csv").read_bytes())
    return [("score.py", *references.words("score")), ("train.py", *references.words("table"))]


def _decoded(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("photos", bench.folder)
    _unfinished(bench.folder)
    manifest = _one(bench.folder, "manifest.json")
    kept = json.loads(manifest.read_text())
    for name in kept["sha256"]:
        content = as_array(canary)
        (manifest.parent / f"{name}.npy").write_bytes(content)
        kept["sha256"][name] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(kept))
    return [("train.py", *references.words("photos"), "force=true")]


def _table(suffix: str) -> Callable[[Bench, References, str], list[Command]]:
    def put(bench: Bench, references: References, canary: str) -> list[Command]:
        references.put_finished("table", bench.folder)
        path = bench.folder / f"evil{suffix}"
        path.write_bytes(as_arrays(path, canary) if suffix == ".npz" else plain(canary))
        train = tuple(word.replace("parts.csv", path.name) for word in TABLE)
        return [
            ("score.py", f"run={references.run_of('table')}", f"input={path.name}", "output=out.csv"),
            ("train.py", *train, "trainer.max_epochs=1", "logger=none"),
        ]

    return put


def _configuration(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("table", bench.folder)
    _one(bench.folder, "config.yaml").write_text(yaml_of(canary))
    (bench.folder / "new.csv").write_bytes((references.of("score").before / "new.csv").read_bytes())
    return [
        ("score.py", *references.words("score")),
        ("score.py", *references.words("query")),
        ("train.py", *references.words("table")),
    ]


def _config_dir(bench: Bench, _: References, canary: str) -> list[Command]:
    folder = bench.folder / "own" / "method"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"name: mine\nx: {yaml_of(canary)}")
    return [("train.py", "--config-dir", "own", "method=mine", "trainer.max_epochs=1", "logger=none")]


def _record(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("single", bench.folder)
    _one(bench.folder, "metrics.json").write_bytes(plain(canary))
    return [("train.py", *references.words("single"))]


def _notes(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("study", bench.folder)
    for path in (bench.folder / "runs" / "studies").rglob("*"):
        if path.suffix in (".json", ".csv", ".txt"):
            path.write_bytes(plain(canary))
    study = ("sweep.py", *references.words("study"))
    return [(*study, "action=status"), (*study, "action=report")]


def _warm_start(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put("relabel", bench.folder)
    for path in (*bench.folder.rglob("last.ckpt"), *bench.folder.rglob("module.ckpt")):
        path.write_bytes(as_checkpoint(canary))
    return [("train.py", *references.words("relabel"))]


def _exported(bench: Bench, references: References, canary: str) -> list[Command]:
    references.put_finished("table", bench.folder)
    run = references.run_of("table")
    folder = bench.folder / run / "detector"
    (folder / "module.ckpt").write_bytes(as_checkpoint(canary))
    _signed(folder)
    return [("export.py", f"run={run}", "format=torch_export", "output=parts.pt2")]


def _names(bench: Bench, references: References, canary: str) -> list[Command]:
    """Names that a shell would execute."""
    del references
    frame_name = f"$(mkdir {CANARY}).csv"
    from own_tables import parts

    parts(240).assign(machine=f"`mkdir {CANARY}`").to_csv(bench.folder / frame_name, index=False)
    words = [word for word in TABLE if not word.startswith("dataset.path")]
    return [("train.py", *words, f"dataset.path='{frame_name}'", "trainer.max_epochs=1", "logger=none")]


ENTRANCES: dict[str, Callable[[Bench, References, str], list[Command]]] = {
    "a pickle as last.ckpt": _checkpoint("last.ckpt", plain),
    "a pickle in last.ckpt": _checkpoint("last.ckpt", as_checkpoint),
    "a pickle as pretrain.ckpt": _checkpoint("pretrain.ckpt", plain),
    "a pickle in pretrain.ckpt": _checkpoint("pretrain.ckpt", as_checkpoint),
    "a pickle in a cached autoencoder": _cache,
    "a pickle in a detector's module.ckpt": _detector("table", "module.ckpt"),
    "a pickle in a detector's references.npz": _detector("table", "references.npz"),
    "a pickle in a detector's calibration.npz": _detector("table", "calibration.npz"),
    "a pickle in a shallow detector's model.npz": _detector("shallow", "model.npz"),
    "a detector that names a module beside it": _target,
    "a pickle in decoded images": _decoded,
    "a pickle in a table .npz": _table(".npz"),
    "a pickle as a table .csv": _table(".csv"),
    "a pickle as a table .parquet": _table(".parquet"),
    "a pickle as a table .mat": _table(".mat"),
    "a pickle as a table .pkl": _table(".pkl"),
    "a Python tag in config.yaml": _configuration,
    "a Python tag in a configuration of one's own": _config_dir,
    "a pickle as metrics.json": _record,
    "pickles as the notes of a study": _notes,
    "a pickle in the run of a warm start": _warm_start,
    "a pickle in a detector that is exported": _exported,
    "names that a shell would run": _names,
}


def trial(bench: Bench, references: References) -> Outcome:
    names = list(ENTRANCES)
    name = names[bench.turn % len(names)]
    canary = bench.folder / CANARY
    commands = ENTRANCES[name](bench, references, str(canary))
    told = []
    try:
        for script, *words in commands:
            ended = bench.run(script, *words)
            if canary.exists() or list(bench.folder.rglob(CANARY)):
                raise WrongError("IT WAS EXECUTED")
            require_sentences(ended)
            told.append(ended.code)
    except WrongError as error:
        raise WrongError(f"{name}: {error}") from None
    return (refused if 1 in told else right)(f"{name}: exit codes {', '.join(map(str, told))}")
