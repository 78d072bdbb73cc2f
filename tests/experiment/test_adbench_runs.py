"""Experiments on tables of ADBench: plans, folders and identities, and a sweep over several tables."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from planned import plan_of
from processes import run_script
from tiny_data import write_adbench

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.adbench_tables import adbench_tables
from deepsad_pl.experiment.build import load_data
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.experiment.run import Outcome
from deepsad_pl.settings import about

QUICK = ("trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1", "logger=none")


def plan_on(table: str, data_dir: Path, *overrides: str) -> Plan:
    return plan_of("dataset=adbench", f"dataset.table={table}", f"data_dir={data_dir}", *overrides)


def test_the_table_is_in_the_identity_and_names_the_folder(tmp_path: Path) -> None:
    plan = plan_on("annthyroid", tmp_path)
    assert plan.identity["dataset"] == {
        "kind": "adbench",
        "table": "annthyroid",
        "scaling": "zscore",
        "network": {"name": "mlp", "units": [32, 16, 4]},
    }
    assert plan.run_dir.parts[-3] == "adbench-annthyroid"
    other = plan_on("mammography", tmp_path)
    assert other.run_dir.parts[-3] == "adbench-mammography"
    assert other.run_dir.name != plan.run_dir.name


def test_a_table_has_the_same_run_with_or_without_its_number(tmp_path: Path) -> None:
    assert plan_on("2_annthyroid", tmp_path).run_dir == plan_on("annthyroid", tmp_path).run_dir
    assert plan_on("2_annthyroid", tmp_path).identity == plan_on("annthyroid", tmp_path).identity


def test_every_table_can_be_planned_and_has_a_folder_of_its_own(tmp_path: Path) -> None:
    plans = [plan_on(name, tmp_path) for name in adbench_tables()]
    assert len({plan.run_dir.parts[-3] for plan in plans}) == len(plans) == 62
    assert not (tmp_path / "adbench").exists()


@pytest.mark.parametrize(("table", "units"), [("http", [32, 16, 2]), ("cardio", [32, 16, 8]), ("mnist", [128, 64, 32])])
def test_the_widths_follow_the_columns_and_can_be_set(tmp_path: Path, table: str, units: list[int]) -> None:
    assert plan_on(table, tmp_path).dataset.network.arguments["units"] == units
    assert plan_on(table, tmp_path, "dataset.network.units=[9,3]").dataset.network.arguments["units"] == [9, 3]


@pytest.mark.parametrize(("table", "chosen_there"), [("cardio", True), ("shuttle", True), ("vowels", False)])
def test_only_the_papers_tables_have_rates_chosen_on_test_data(tmp_path: Path, table: str, chosen_there: bool) -> None:
    classic = about.own("dataset")["cardio"]
    dataset = plan_on(table, tmp_path).dataset
    assert {key: getattr(dataset, key) for key in ("lr", "epochs", "batch_size", "scaling", "classes")} == {
        key: classic[key] for key in ("lr", "epochs", "batch_size", "scaling", "classes")
    }
    assert dataset.lr_from_test is chosen_there


def test_a_wrong_table_is_reported_with_all_other_problems(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError) as caught:
        plan_on("anthyroid", tmp_path, "method.eta=-1", "scenario.gamma_l=2")
    assert [problem.split(" is ")[0] for problem in caught.value.problems] == [
        "dataset.table",
        "method.eta",
        "scenario.gamma_l",
    ]
    assert "did you mean annthyroid?" in caught.value.problems[0]


@pytest.mark.parametrize("table", ["[annthyroid,cardio]", "7", "null"])
def test_a_value_that_is_not_a_name_is_reported(tmp_path: Path, table: str) -> None:
    with pytest.raises(DeepSADError, match=r"dataset.table is .*; (give|it must be a string)"):
        plan_on(table, tmp_path)


def test_a_missing_table_is_required(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"^dataset.table is not set; set it on the command line: dataset.table="):
        plan_of("dataset=adbench", f"data_dir={tmp_path}")


def test_a_removed_setting_is_reported(tmp_path: Path) -> None:
    done = run_script("train.py", "dataset=adbench", "dataset.table=wine", "~dataset.lr", *QUICK, cwd=tmp_path)
    assert done.returncode != 0
    assert "~dataset.lr removes the setting dataset.lr, which every experiment needs" in done.stderr


def test_a_check_that_cannot_be_imported_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DeepSADError, match=r"dataset.about.check is nowhere.to_be.found, which cannot be imported"):
        plan_on("annthyroid", tmp_path, "dataset.about.check=nowhere.to_be.found")


def test_other_content_has_another_identity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    published = plan_on("vowels", tmp_path)
    write_adbench(tmp_path, "vowels")
    with pytest.raises(DeepSADError, match=r"the files of adbench-vowels in .* have changed since the run was planned"):
        load_data(published)
    own = plan_on("vowels", tmp_path)
    assert own.run_dir != published.run_dir
    with caplog.at_level(logging.INFO, "deepsad_pl"):
        load_data(own)
    assert (
        f"adbench-vowels in {tmp_path} is not the published data set, so its runs get separate folders" in caplog.text
    )
    write_adbench(tmp_path, "vowels", seed=1)
    assert plan_on("vowels", tmp_path).run_dir not in (own.run_dir, published.run_dir)


def test_a_sweep_runs_several_tables(tmp_path: Path) -> None:
    for name in ("vowels", "WBC", "MVTec-AD_grid"):
        write_adbench(tmp_path / "data", name)
    tables = "dataset.table=vowels,42_WBC,MVTec-AD_grid"
    done = run_script("train.py", "-m", "dataset=adbench", tables, "data_dir=data", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/*/metrics.json")]
    assert {record["dataset"] for record in records} == {"adbench-vowels", "adbench-WBC", "adbench-MVTec-AD_grid"}


@pytest.mark.parametrize("table", ["Hepatitis", "satellite", "shuttle", "mnist", "MVTec-AD_cable", "InternetAds"])
def test_one_epoch_runs_on_the_real_tables(real_data: Path, experiment: Callable[..., Outcome], table: str) -> None:
    known = adbench_tables()[table]
    if not (real_data / "adbench" / known.file).exists():
        pytest.skip(f"no {table} of ADBench in DEEPSAD_DATA_DIR")
    words = ["dataset=adbench", f"dataset.table={table}", f"data_dir={real_data}", "scenario.gamma_l=0.01"]
    record = experiment(*words, *QUICK).record
    assert record["dataset"] == f"adbench-{table}"
    assert abs(record["counts"]["test"] - 0.4 * known.rows) <= 1
    assert abs(record["counts"]["test_anomalous"] - 0.4 * known.anomalies) <= 1
    assert 0 <= record["auroc"] <= 1
    assert "data_digest" not in record["identity"]["dataset"]
