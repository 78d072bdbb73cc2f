"""Damage to files that are read back: flipped bits and bytes, holes, missing ends, added bytes, another run's file."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from torture.oracles import files_in, require_same_file, require_same_tree
from torture.trial import Bench, Outcome, WrongError, refused, require_sentences, right
from torture.workloads import TRAININGS, WORKLOADS, References

WHAT = "a bit or byte flipped, a hole, a missing end, garbage, or another run's file where one is read back; repeated"


def _bit(content: bytearray, rng: Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _byte(content: bytearray, rng: Random) -> None:
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)


def _hole(content: bytearray, rng: Random) -> None:
    begin = rng.randrange(len(content))
    end = min(len(content), begin + rng.choice((16, 512, 4096)))
    content[begin:end] = bytes(end - begin)


def _short(content: bytearray, rng: Random) -> None:
    del content[rng.randrange(len(content)) :]


def _longer(content: bytearray, rng: Random) -> None:
    content += rng.randbytes(rng.choice((1, 100)))


def _empty(content: bytearray, _: Random) -> None:
    content.clear()


DAMAGE: dict[str, Callable[[bytearray, Random], None]] = {
    "a bit flipped": _bit,
    "a byte changed": _byte,
    "a hole": _hole,
    "a missing end": _short,
    "garbage at its end": _longer,
    "nothing left": _empty,
}


def damage(path: Path, rng: Random) -> str:
    """Damage a file, and return how."""
    how = rng.choice((*DAMAGE, "a bit flipped", "a byte changed"))
    content = bytearray(path.read_bytes())
    if content:
        DAMAGE[how](content, rng)
    path.write_bytes(content)
    return how


def _foreign(bench: Bench, references: References, name: str, path: str) -> str:
    """One time in six, replace the file with another run's file of the same name; return its workload, or nothing."""
    if bench.rng.random() > 1 / 6:
        return ""
    donor = bench.rng.choice([one for one in TRAININGS if one not in (name, "study")])
    files = [file for file in references.of(donor).after.rglob(Path(path).name) if file.is_file()]
    if path.endswith(".bin"):
        files = list(references.of(donor).after.rglob("*.bin"))
    if not files:
        return ""
    (bench.folder / path).write_bytes(bench.rng.choice(sorted(files)).read_bytes())
    return donor


def trial(bench: Bench, references: References) -> Outcome:
    name = TRAININGS[bench.turn % len(TRAININGS)]
    reference, workload = references.of(name), WORKLOADS[name]
    references.put_finished(name, bench.folder)
    before = files_in(reference.before)
    files = [path for path in files_in(bench.folder) if path not in before and not path.endswith((".png", ".svg"))]
    path = bench.rng.choice(files)
    unfinished = bench.rng.random() < 0.4
    if unfinished:
        # As if the run had been killed before its end, so that the checkpoints of its training are read back.
        for record in (*bench.folder.rglob("metrics.json"), *bench.folder.rglob("scores.csv")):
            if record != bench.folder / path and record.relative_to(bench.folder).as_posix() not in before:
                record.unlink()
    donor = _foreign(bench, references, name, path)
    how = f"that of {donor}" if donor else damage(bench.folder / path, bench.rng)
    # A stack may have trained the same experiment: its checkpoint is not foreign, but has the bits of a stack.
    exact = workload.exact and (not donor or WORKLOADS[donor].exact)
    told = f"{name}: {how} in {path}{' of an unfinished run' if unfinished else ''}"
    try:
        repeated = bench.run(workload.script, *references.words(name))
        require_sentences(repeated)
        if repeated.code == 1:
            return refused(f"{told}: {repeated.told[:160]}")
        _require_same(bench, references, name, path, exact=exact)
        if name == "table":
            return _scored(bench, references, told)
    except WrongError as error:
        raise WrongError(f"{told}: {error}") from None
    return right(told)


def _require_same(bench: Bench, references: References, name: str, path: str, *, exact: bool) -> None:
    """Require that the repeated command left the results of an undamaged run."""
    reference = references.of(name)

    def left_out(file: str) -> bool:
        # The command does not read every file; the next one reads the rest.
        return file == path or file.endswith(".damaged")

    require_same_tree(reference.after, bench.folder, exact=exact, but=left_out)
    if path.endswith(("metrics.json", "scores.csv")):
        require_same_file(reference.after / path, bench.folder / path, exact=exact)


def _scored(bench: Bench, references: References, told: str) -> Outcome:
    """Score new rows with the detector of a run that has a damaged file."""
    references.of("score")
    new, expected = (references.of("score").before / "new.csv"), references.of("score").after / "out.csv"
    (bench.folder / "new.csv").write_bytes(new.read_bytes())
    scored = bench.run("score.py", *references.words("score"))
    require_sentences(scored)
    if scored.code == 1:
        if (bench.folder / "out.csv").exists():
            raise WrongError("score.py failed, but left an output")
        return refused(f"{told}: {scored.told[:160]}")
    require_same_file(expected, bench.folder / "out.csv", exact=True)
    return right(told)
