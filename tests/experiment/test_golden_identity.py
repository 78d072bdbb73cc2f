"""Run folders and cache keys do not change, so that finished runs and trained autoencoders are found again."""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_files import DATASETS, METHODS, GoldenFiles
from hydra.core.override_parser.overrides_parser import OverridesParser
from planned import plan_of, settings_of

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.records import identity_hash
from deepsad_pl.data.image_folder import looked_at_once
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.encoder_cache import entry_key
from deepsad_pl.experiment.plan import make_plan

# A change is skipped for methods and data sets without its settings.
VALUES = (
    "seed=3",
    "scenario.gamma_l=0",
    "scenario.gamma_n=0.05",
    "scenario.gamma_p=0.1",
    "scenario.k_l=2 scenario.anomaly_class=null",
    "method.selection=holdout",
    "method.selection=none",
    "method.sees_labeled_anomalies=true",
    "trainer.max_epochs=3",
    "trainer.precision=bf16-mixed",
    "dataset.network.dense=[24]",
    "dataset.network.units=[12,6]",
    "dataset.scaling=minmax",
)
CACHED = (
    "dataset=digits method=deep_sad",
    "dataset=digits method=deep_svdd",
    "dataset=digits method=autoencoder",
    "dataset=digits method=autoencoder scenario.gamma_n=0.05 scenario.gamma_p=0.1",
    "dataset=digits method=ss_dgm_m1m2",
    "dataset=digits method=ocsvm_hybrid method.sees_labeled_anomalies=true",
    "dataset=digits method=deep_sad pretrain.data=unlabeled trainer.precision=bf16-mixed",
    "dataset=toy method=deep_sad",
    "dataset=toy method=ss_dgm_m1m2 seed=1",
    "dataset=cardio method=ssad_hybrid",
    "dataset=cardio method=kde_hybrid",
    "dataset=cardio method=deep_sad dataset.scaling=minmax pretrain.loss=cross_entropy",
    "dataset=cardio method=ss_dgm_m1m2 method.hidden=[8]",
)


def write_images(root: Path) -> Path:
    """Three classes, two images of each in both parts, the same bytes everywhere."""
    for number, (part, name) in enumerate(itertools.product(("train", "test"), ("ant", "bee", "Öl 2"))):
        folder = root / part / name
        folder.mkdir(parents=True)
        for i in range(2):
            (folder / f"{i}.pgm").write_bytes(b"P5 8 8 255\n" + bytes(range(number, number + 64 * (i + 1), i + 1)))
    return root


def write_small_cardio(data_dir: Path) -> Path:
    """A table in place of cardio, with the same bytes everywhere: 120 rows, of which every sixth is an outlier."""
    import numpy as np

    number = np.arange(120 * 21).reshape(120, 21)
    outlier = np.arange(120) % 6 == 0
    (data_dir / "odds").mkdir(parents=True)
    # In multiples of 1/64, which no machine rounds.
    x = (number * 7919 % 1009) / 64 + 4.0 * outlier[:, None]
    np.savez(data_dir / "odds" / "cardio.npz", X=x, y=outlier.astype(np.int64))
    return data_dir


def with_values(settings: dict[str, Any], words: str) -> dict[str, Any] | None:
    """The settings with some changed values, to which no other setting refers; None if a setting is missing."""
    changed = copy.deepcopy(settings)
    for override in OverridesParser.create().parse_overrides(words.split()):
        *groups, key = override.key_or_group.split(".")
        node = changed
        for group in groups:
            node = node[group]
        if key not in node:
            return None
        # As the schema would make it.
        node[key] = float(override.value()) if isinstance(node[key], float) else override.value()
    return changed


def planned_folder(settings: dict[str, Any]) -> str:
    """The run folder below the output folder, or the reasons why there is none."""
    try:
        plan = make_plan(settings)
    except DeepSADError as error:
        return f"refused: {' | '.join(error.problems)}"
    assert plan.run_dir.name.endswith(f"-{identity_hash(plan.identity)}")
    return plan.run_dir.relative_to("runs").as_posix()


def folders(settings: dict[str, Any], paper: dict[str, Any]) -> Iterator[str]:
    """The run folder of an experiment, then those with one thing changed.

    Args:
        settings: settings of the experiment.
        paper: settings of its method with ``recipe=paper``, which do not refer to the data set.
    """
    yield f"-: {planned_folder(settings)}"
    yield f"recipe=paper: {planned_folder({**paper, 'dataset': settings['dataset']})}"
    yield f"pretrain=none: {planned_folder({**settings, 'pretrain': {'name': 'none', 'cache': True}})}"
    for values in VALUES:
        if (changed := with_values(settings, values)) is not None:
            yield f"{values}: {planned_folder(changed)}"


def test_run_folders_are_unchanged(golden: GoldenFiles, tmp_path: Path) -> None:
    where = (f"data_dir={tmp_path / 'data'}", f"dataset.root={write_images(tmp_path / 'images')}")
    paper = {method: settings_of(where[0], f"method={method}", "recipe=paper") for method in METHODS}
    found = {}
    with looked_at_once():
        for dataset, method in itertools.product(DATASETS, METHODS):
            words = (f"dataset={dataset}", f"method={method}")
            settings = settings_of(*words, *where[: 2 if dataset == "image_folder" else 1])
            found[" ".join(words)] = list(folders(settings, paper[method]))
    golden.check("run_folders.txt", found)


def test_values_are_set_as_by_the_command_line() -> None:
    words = "method.selection=holdout scenario.gamma_l=0 scenario.k_l=2 scenario.anomaly_class=null"
    assert with_values(settings_of("method=ssad_raw"), words) == settings_of("method=ssad_raw", *words.split())


def test_cache_keys_are_unchanged(golden: GoldenFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data_dir = write_small_cardio(tmp_path)
    found: dict[str, list[str]] = {}
    for words in CACHED:
        plan = plan_of(f"data_dir={data_dir}", *words.split())
        phases = build(plan, load_data(plan)).phases
        found[words] = [f"{phase.name}: {entry_key(p)}" for phase in phases if (p := phase.determined_by) is not None]
    golden.check("cache_keys.txt", found)
