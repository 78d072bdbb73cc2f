"""The comparison of old and new code finds all differences, and none where there are none."""

from pathlib import Path

import pytest
from processes import ROOT, Script

from benchmarks import same_bits

# A fast stand-in for train.py that leaves the same kinds of files; {changes} makes it different code.
TRAIN = """
import json, sys, time
from pathlib import Path

identity, key, score, resumes = "a", "k", "0.5", True
{changes}
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
out = Path(words["output_dir"])
entry = out / "cache" / f"{{key}}.bin"
for method in words["method"].split(","):
    folder = out / words["dataset"] / method / identity
    if (folder / "metrics.json").exists():
        continue
    folder.mkdir(parents=True, exist_ok=True)
    reused = {{"fit": "it"}} if entry.exists() else {{}}
    entry.parent.mkdir(exist_ok=True)
    if not reused:
        entry.write_text("weights")
    for group, name in (("pretrain", "pretrain.ckpt"), ("method", "last.ckpt")):
        with (folder / "train.log").open("a") as log:
            print("it resumes from" if resumes and (folder / name).exists() else "it begins", file=log)
        for _ in range(json.loads(words.get(f"{{group}}.epochs", "[1]"))[0]):
            (folder / name).touch()
            time.sleep(0.002)
    (folder / "scores.csv").write_text(score)
    (folder / "metrics.json").write_text(json.dumps({{"reused": reused}}))
"""
PARTS = [
    *(f"digits, {way}, {part}" for way in ("alone", "stacked") for part in ("scores", "finished runs", "cache")),
    *("digits, half a pretrain", "digits, half a method"),
]
HALVES = ["digits, half a pretrain", "digits, half a method"]


@pytest.mark.parametrize(
    ("changes", "otherwise", "sentence"),
    [
        ("", [], "as it was"),
        ("score = '0.6'", ["digits, alone, scores", "digits, stacked, scores"], "a/scores.csv differs"),
        ("identity = 'b'", [p for p in PARTS if "cache" not in p], "b/scores.csv is in one of them only"),
        ("key = 'l'", ["digits, alone, cache", "digits, stacked, cache"], "l.bin is new"),
        ("resumes = False", HALVES, "it was begun again"),
    ],
)
def test_what_new_code_does_differently_is_reported(
    changes: str, otherwise: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, made in (("old", ""), ("new", changes)):
        (tmp_path / name / "conf" / "method").mkdir(parents=True)
        (tmp_path / name / "conf" / "method" / "deep_sad.yaml").touch()
        (tmp_path / name / "train.py").write_text(TRAIN.format(changes=made))
    words = ["--old", str(tmp_path / "old"), "--new", str(tmp_path / "new"), "--datasets", "digits"]
    assert same_bits.main(words) == bool(otherwise)
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [title.removesuffix(": as it was").removesuffix(":") for title in titles] == PARTS
    assert [title.removesuffix(":") for title in titles if title.endswith(":")] == otherwise
    assert sentence in out


def test_failing_code_is_reported(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('no such setting')")
    with pytest.raises(SystemExit, match=r"train\.py seed=1 failed:\nno such setting"):
        same_bits.run(tmp_path, "seed=1")


@pytest.mark.slow
def test_a_half_finished_run_of_old_code_is_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(same_bits, "start", lambda _, *words: Script("train.py", *words, *same_bits._ALWAYS, cwd=ROOT))
    monkeypatch.setattr(same_bits, "_EPOCHS", 60)
    assert same_bits.half_finished(ROOT, ROOT, tmp_path, "method", "digits") == []
