"""A result belongs to the bytes that it was computed from: the published files, or files that replace them."""

import logging
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import plan_of, settings_of
from tiny_data import md5_of, table_of, write_cifar10, write_idx, write_odds, write_table
from torchvision import datasets

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.data import odds, published
from deepsad_pl.data.download import sha256_of
from deepsad_pl.data.odds import ODDS_FILES
from deepsad_pl.data.published import PUBLISHED, data_digest
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.plan import Plan, make_plan
from deepsad_pl.experiment.run import Outcome, run_experiment
from deepsad_pl.stacked.experiments import _source_of

# Hashes of the default experiment on each set, from before file contents were part of the identity.
HASHES = {
    "digits": "b4ba7534",
    "toy": "e4729cd5",
    "mnist": "d11b87ac",
    "fmnist": "b96d0609",
    "cifar10": "ed88f434",
    "arrhythmia": "bad1d5e6",
    "cardio": "5a7e9f6f",
    "satellite": "4a5a4ef9",
    "satimage-2": "efedf969",
    "shuttle": "9efca310",
    "thyroid": "b81afde8",
}
WITH_FILES = [name for name in HASHES if name not in ("digits", "toy")]


def plan_on(name: str, data_dir: Path, *overrides: str) -> Plan:
    return plan_of(f"dataset={name}", f"data_dir={data_dir}", *overrides)


def digest_of(plan: Plan) -> str | None:
    digest: str | None = plan.identity["dataset"].get("data_digest")
    return digest


def write(name: str, data_dir: Path) -> list[Path]:
    """Write tiny files of a set and return them."""
    if name in ODDS_FILES:
        return [write_odds(data_dir, name)]
    folder = write_cifar10(data_dir) if name == "cifar10" else write_idx(data_dir, PUBLISHED[name].folder).parent
    return [folder / file for file in PUBLISHED[name].sha256]


def publish(monkeypatch: pytest.MonkeyPatch, name: str, files: list[Path]) -> None:
    """Make these files the published ones."""
    if name in ODDS_FILES:
        monkeypatch.setitem(odds.ODDS_FILES, name, replace(ODDS_FILES[name], sha256=sha256_of(files[0])))
    else:
        known = PUBLISHED[name]
        digests = {file: sha256_of(path) for file, path in zip(known.sha256, files, strict=True)}
        monkeypatch.setitem(published.PUBLISHED, name, replace(known, sha256=digests))


@pytest.mark.parametrize("name", HASHES)
def test_without_files_the_identity_is_that_of_the_published_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("planning downloads nothing")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    plan = plan_on(name, tmp_path / "data")
    assert identity_hash(plan.identity) == HASHES[name]
    assert not (tmp_path / "data").exists()


# There are copies of Fashion-MNIST with the images in another order.
@pytest.mark.parametrize("name", [name for name in WITH_FILES if name != "fmnist"])
def test_the_real_files_are_the_published_ones(real_data: Path, name: str) -> None:
    if name in PUBLISHED and not (real_data / PUBLISHED[name].folder).exists():
        pytest.skip(f"no {name} in DEEPSAD_DATA_DIR")
    assert identity_hash(plan_on(name, real_data).identity) == HASHES[name]


@pytest.mark.parametrize("name", WITH_FILES)
def test_published_files_keep_their_identity_and_any_changed_byte_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = write(name, tmp_path)
    publish(monkeypatch, name, files)
    assert identity_hash(plan_on(name, tmp_path).identity) == HASHES[name]
    hashes = {HASHES[name]}
    for number, path in enumerate(files, start=2):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        hashes.add(identity_hash(plan_on(name, tmp_path).identity))
        assert len(hashes) == number
        path.write_bytes(content)
    assert identity_hash(plan_on(name, tmp_path).identity) == HASHES[name]


@pytest.mark.parametrize("name", ["mnist", "fmnist", "cifar10"])
def test_a_set_that_lacks_a_file_will_be_downloaded_as_published(tmp_path: Path, name: str) -> None:
    files = write(name, tmp_path)
    assert digest_of(plan_on(name, tmp_path)) is not None
    files[-1].unlink()
    assert identity_hash(plan_on(name, tmp_path).identity) == HASHES[name]


def test_a_download_replaces_all_files_of_an_incomplete_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write("mnist", tmp_path / "published")
    publish(monkeypatch, "mnist", files)
    raw = write_idx(tmp_path / "own", packed=True)
    monkeypatch.setattr(datasets.MNIST, "resources", [(path.name, md5_of(path)) for path in sorted(raw.iterdir())])
    (raw / "train-images-idx3-ubyte").write_bytes(b"something else")
    plan = plan_on("mnist", tmp_path / "own")
    load_data(plan)
    assert digest_of(plan) is None
    assert (raw / "train-images-idx3-ubyte").read_bytes() == files[0].read_bytes()


def test_the_identity_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    write("cardio", tmp_path / "here")
    write("cardio", tmp_path / "there")
    assert plan_on("cardio", tmp_path / "here").identity == plan_on("cardio", tmp_path / "there").identity


def test_the_same_numbers_in_another_container_count_as_another_file(tmp_path: Path) -> None:
    table = table_of(60, 21, 20)
    write_table(tmp_path / "mat" / "odds" / "cardio.mat", *table)
    write_table(tmp_path / "npz" / "odds" / "cardio.npz", *table)
    digests = {digest_of(plan_on("cardio", tmp_path / suffix)) for suffix in ("mat", "npz")}
    assert len(digests) == 2
    assert None not in digests


@pytest.mark.parametrize("method", ["deep_sad", "ocsvm_raw"])
def test_a_replaced_table_gets_its_own_result(tmp_path: Path, method: str) -> None:
    for name, seed in (("A", 0), ("B", 1)):
        write_table(tmp_path / name / "odds" / "cardio.mat", *table_of(60, 21, 20, seed=seed))

    def run(data_dir: str) -> Outcome:
        settings = settings_of(
            "dataset=cardio", f"method={method}", "trainer.max_epochs=1", "logger=none", f"output_dir={tmp_path}"
        )
        settings["data_dir"] = str(tmp_path / data_dir)
        return run_experiment(make_plan(settings), config=settings, config_yaml="", command="")

    first, other, again = run("A"), run("B"), run("A")
    assert [outcome.was_finished for outcome in (first, other, again)] == [False, False, True]
    assert first.run_dir == again.run_dir != other.run_dir
    scores = [
        np.loadtxt(run_dir / "scores.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2))
        for run_dir in (first.run_dir, other.run_dir)
    ]
    assert not np.array_equal(*scores)
    assert again.record == first.record


def test_a_replaced_test_row_makes_another_autoencoder(tmp_path: Path) -> None:
    def keys(data_dir: Path) -> Any:
        plan = plan_on("cardio", data_dir)
        return build(plan, load_data(plan)).phases[0].determined_by

    x, y = table_of(60, 21, 20)
    write_table(tmp_path / "A" / "odds" / "cardio.mat", x, y)
    before = keys(tmp_path / "A")
    source = load_data(plan_on("cardio", tmp_path / "A"))
    x[next(i for i in range(60) if i not in _train_rows(y, source))] += 1
    write_table(tmp_path / "B" / "odds" / "cardio.mat", x, y)
    after = keys(tmp_path / "B")
    assert after["rows"] == before["rows"]
    assert after["dataset"] != before["dataset"]


def _train_rows(y: Any, source: Source) -> set[int]:
    from deepsad_pl.data.sources import split_rows

    train, _ = split_rows(y, 0)
    assert len(train) == len(source.x_train)
    return set(train.tolist())


def test_files_that_change_between_planning_and_loading_are_refused(tmp_path: Path) -> None:
    planned_without = plan_on("cardio", tmp_path)
    write("cardio", tmp_path)
    planned_with = plan_on("cardio", tmp_path)
    for stale in (planned_without,):
        with pytest.raises(
            DeepSADError, match=r"the files of cardio in .* have changed since the run was planned.*run"
        ):
            load_data(stale)
    load_data(planned_with)
    write_table(tmp_path / "odds" / "cardio.mat", *table_of(60, 21, 20, seed=1))
    with pytest.raises(DeepSADError, match="have changed since the run was planned"):
        load_data(planned_with)
    load_data(plan_on("cardio", tmp_path))


def test_parallel_experiments_share_only_data_of_equal_content(tmp_path: Path) -> None:
    write("cardio", tmp_path)
    known: dict[str, Source] = {}
    before = plan_on("cardio", tmp_path)
    first = _source_of(before, known)
    write_table(tmp_path / "odds" / "cardio.mat", *table_of(60, 21, 20, seed=1))
    other = _source_of(plan_on("cardio", tmp_path), known)
    assert not np.array_equal(first.x_train, other.x_train)
    assert _source_of(before, known) is first


def test_files_other_than_the_published_ones_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = write("mnist", tmp_path)
    plan = plan_on("mnist", tmp_path)
    with caplog.at_level(logging.INFO, "deepsad_pl"):
        load_data(plan)
    assert caplog.messages == [f"mnist in {tmp_path} is not the published data set, so its runs get separate folders"]
    caplog.clear()
    publish(monkeypatch, "mnist", files)
    with caplog.at_level(logging.INFO, "deepsad_pl"):
        load_data(plan_on("mnist", tmp_path))
    assert caplog.messages == []


def test_a_read_only_data_folder_is_enough(tmp_path: Path) -> None:
    write("cardio", tmp_path)
    (tmp_path / "cache").write_bytes(b"no folder can be here")
    assert len(load_data(plan_on("cardio", tmp_path)).x_train) > 0
    assert (tmp_path / "cache").read_bytes() == b"no folder can be here"


def test_an_unreadable_file_is_reported_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "odds" / "cardio.mat").mkdir(parents=True)
    with pytest.raises(DeepSADError, match=r"cardio in .* cannot be read \(.*cardio.mat.*\); make it readable or"):
        plan_on("cardio", tmp_path)


@pytest.mark.parametrize("kind", ["digits", "toy"])
def test_sets_without_files_have_no_digest(tmp_path: Path, kind: str) -> None:
    assert data_digest(kind, tmp_path) is None


def test_the_pinned_files_of_cifar10_are_those_that_torchvision_reads() -> None:
    named = [name for name, _ in [*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list]]
    assert [*named, datasets.CIFAR10.meta["filename"]] == list(PUBLISHED["cifar10"].sha256)


def test_a_data_set_from_outside_says_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contents.py").write_text(
        "def content(settings, cache_dir):\n    return {'files': (cache_dir.parent / settings['name']).read_text()}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def files() -> str:
        plan = plan_on("toy", tmp_path, "+dataset.about.content=contents.content")
        found: str = plan.identity["dataset"]["files"]
        return found

    (tmp_path / "toy").write_text("first")
    assert files() == "first"
    (tmp_path / "toy").write_text("second")
    assert files() == "second"
    with pytest.raises(DeepSADError, match=r"dataset\.about\.content is contents\.nothing, which cannot be imported"):
        plan_on("toy", tmp_path, "+dataset.about.content=contents.nothing")
