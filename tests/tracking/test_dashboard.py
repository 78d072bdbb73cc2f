"""The specification of the dashboard: every panel, keys that our runs have, the filter and the groups."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from omegaconf import OmegaConf
from planned import settings_of
from processes import ROOT

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.tracking.dashboard import AUROC, Dashboard, logged_in, upload_dashboard, workspace_spec, write_dashboard
from deepsad_pl.tracking.trackers import flatten

STUDIES = {path.stem: OmegaConf.load(path) for path in (ROOT / "conf" / "study").glob("*.yaml")}
DASHBOARD = Dashboard(
    name="Scenario (i)",
    project="deepsad-pl",
    entity=None,
    group="labeled_anomalies",
    axes=["scenario.gamma_l"],
    datasets=["digits"],
)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Hide the W&B key and settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    # Otherwise W&B asks its server for the name of the account, to print it.
    monkeypatch.setenv("WANDB_SILENT", "true")
    # A session keeps a key once it has found one.
    wandb.teardown()
    yield
    wandb.teardown()


def spec_of(**changed: Any) -> dict[str, Any]:
    return workspace_spec(replace(DASHBOARD, **changed))


def panels(spec: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    sections = spec["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel["config"] for section in sections for panel in section["panels"] if panel["viewType"] == kind]


def runset(spec: dict[str, Any]) -> dict[str, Any]:
    (only,) = spec["spec"]["section"]["runSets"]
    return only


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def config_keys(spec: dict[str, Any]) -> set[str]:
    """All config keys that a specification uses, as W&B stores them."""
    keys = {text.removeprefix("config:") for text in strings(spec) if text.startswith("config:")}
    keys |= {key["name"] for key in runset(spec)["grouping"] if key["section"] == "config"}
    return keys | {panel["groupBy"] for panel in panels(spec, "Bar Chart")}


def test_auroc_is_drawn_over_the_axis() -> None:
    (panel,) = panels(spec_of(), "Scatter Plot")
    assert (panel["xAxis"], panel["yAxis"]) == ("config:scenario.gamma_l.value", "summary:test/auroc")
    assert panel["xAxisLogScale"] is False


def test_eta_has_a_logarithmic_axis() -> None:
    (panel,) = panels(spec_of(axes=["method.eta"]), "Scatter Plot")
    assert (panel["xAxis"], panel["xAxisLogScale"]) == ("config:method.eta.value", True)


def test_each_axis_has_its_panel() -> None:
    axes = ["scenario.gamma_l", "scenario.gamma_p"]
    found = [panel["xAxis"] for panel in panels(spec_of(axes=axes), "Scatter Plot")]
    assert found == [f"config:{axis}.value" for axis in axes]
    assert panels(spec_of(axes=[]), "Scatter Plot") == []


@pytest.mark.parametrize(
    ("datasets", "by"),
    [(["digits"], ["method.name"]), (["mnist", "fmnist"], ["method.name", "dataset.name"])],
)
def test_auroc_is_drawn_by_method_and_by_data_set_if_there_are_several(datasets: list[str], by: list[str]) -> None:
    bars = panels(spec_of(datasets=datasets), "Bar Chart")
    assert [bar["groupBy"] for bar in bars] == [f"{key}.value" for key in by]
    assert all((bar["metrics"], bar["groupAgg"], bar["groupArea"]) == ([AUROC], "mean", "stddev") for bar in bars)


def test_parallel_coordinates_show_data_set_method_axis_and_auroc() -> None:
    (panel,) = panels(spec_of(), "Parallel Coordinates Plot")
    assert [column["accessor"] for column in panel["columns"]] == [
        "config:dataset.name.value",
        "config:method.name.value",
        "config:scenario.gamma_l.value",
        "summary:test/auroc",
    ]


def test_score_histograms_are_shown() -> None:
    found = [panel["metrics"] for panel in panels(spec_of(), "Run History Line Plot")]
    assert found == [["test/scores_normal"], ["test/scores_anomalous"]]


def test_the_report_is_shown() -> None:
    spec = spec_of()
    found = [panel["mediaKeys"] for panel in panels(spec, "Media Browser")]
    assert found == [["report/figure"], ["report/scatter"]]
    assert "report/table" in set(strings(panels(spec, "Weave")))


def test_another_metric_and_further_pictures_are_shown() -> None:
    spec = spec_of(metric="auroc_novel", pictures=["figure", "known_novel"])
    assert all(bar["metrics"] == ["test/auroc_novel"] for bar in panels(spec, "Bar Chart"))
    assert [panel["mediaKeys"] for panel in panels(spec, "Media Browser")] == [
        ["report/figure"],
        ["report/known_novel"],
    ]
    assert runset(spec)["runFeed"]["columnOrder"][-1] == "summary:test/auroc_novel"
    assert "test/auroc" not in set(strings(spec))


def test_the_table_of_runs_is_shown() -> None:
    spec = spec_of()
    assert len(panels(spec, "Run Comparer")) == 1
    feed = runset(spec)["runFeed"]
    assert feed["columnOrder"] == [
        "run:displayName",
        "config:dataset.name.value",
        "config:method.name.value",
        "config:scenario.gamma_l.value",
        "summary:test/auroc",
    ]
    assert feed["columnPinned"] == dict.fromkeys(feed["columnOrder"], True)


@pytest.mark.parametrize("group", ["labeled_anomalies", "mine/k_l=3", "it's <new>", 'a "b"'])
def test_only_runs_of_the_group_are_shown(group: str) -> None:
    (only,) = runset(spec_of(group=group))["filters"]["filters"]
    assert only == {"key": {"section": "run", "name": "group"}, "op": "=", "value": group, "disabled": False}


@pytest.mark.parametrize(
    ("datasets", "keys"),
    [
        (["digits"], ["method.name", "scenario.gamma_l"]),
        (["mnist", "cifar10"], ["method.name", "dataset.name", "scenario.gamma_l"]),
    ],
)
def test_runs_are_grouped_by_method_first(datasets: list[str], keys: list[str]) -> None:
    found = runset(spec_of(datasets=datasets))["grouping"]
    assert found == [{"section": "config", "name": f"{key}.value"} for key in keys]
    assert spec_of()["spec"]["section"]["settings"]["useRunsTableGroupingInPanels"] is True


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_all_config_keys_are_keys_of_our_runs(study: str) -> None:
    axes = list(STUDIES[study].get("keys", {}).values())
    found = config_keys(spec_of(axes=axes, datasets=["digits", "mnist"]))
    assert found == {f"{key}.value" for key in ("method.name", "dataset.name", *axes)}
    choices = [f"{group}={name}" for group, name in STUDIES[study].get("choices", {}).items()]
    ours = flatten(settings_of("method=deep_sad", *choices))
    assert {key.removesuffix(".value") for key in found} <= set(ours)


def test_panels_have_unique_ids() -> None:
    sections = spec_of()["spec"]["section"]["panelBankConfig"]["sections"]
    ids = [panel["__id__"] for section in sections for panel in section["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_file_is_the_same_each_time(tmp_path: Path) -> None:
    path = write_dashboard(tmp_path / "studies" / "labeled_anomalies", DASHBOARD)
    assert path.name == "workspace.json"
    assert json.loads(path.read_text()) == spec_of()
    code = (
        "import sys, json, pathlib as p, deepsad_pl.tracking.dashboard as d; "
        "d.write_dashboard(p.Path(), d.Dashboard(**json.load(sys.stdin)))"
    )
    call = [sys.executable, "-c", code]
    subprocess.run(call, cwd=tmp_path, input=json.dumps(asdict(DASHBOARD)), text=True, check=True, capture_output=True)
    assert (tmp_path / "workspace.json").read_bytes() == path.read_bytes()


def test_name_project_and_entity_are_reported() -> None:
    spec = spec_of(entity="us")
    assert (spec["displayName"], spec["project"], spec["entity"]) == ("Scenario (i)", "deepsad-pl", "us")
    assert "entity" not in spec_of()


@pytest.mark.parametrize("call", [workspace_spec, upload_dashboard])
def test_a_missing_library_is_reported_with_the_way_out(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(DeepSADError, match=r"action=dashboard needs .* run pip install 'deepsad-pl\[dashboard\]'"):
        call(DASHBOARD)


class Server:
    """Stands for W&B, as far as the library uses it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from wandb_workspaces.workspaces import internal

        self.views: list[Any] = []
        self.error: Exception | None = None
        api = SimpleNamespace(default_entity="me", client=SimpleNamespace(app_url="https://wandb.example"))
        monkeypatch.setattr(wandb, "Api", lambda: api)
        monkeypatch.setattr(internal, "upsert_view2", self.upsert)

    def upsert(self, view: Any) -> dict[str, Any]:
        if self.error:
            raise self.error
        self.views.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "the id"}}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def test_without_an_account_nothing_is_sent(server: Server) -> None:
    assert not logged_in()
    assert upload_dashboard(DASHBOARD) is None
    assert server.views == []


@pytest.mark.parametrize(("entity", "owner"), [(None, "me"), ("us", "us")])
def test_the_upload_equals_the_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, entity: str | None, owner: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert logged_in()
    assert upload_dashboard(replace(DASHBOARD, entity=entity)) == f"https://wandb.example/{owner}/deepsad-pl?nw=abc"
    (view,) = server.views
    assert view.entity == owner
    assert json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True)) == spec_of()["spec"]


def test_a_refusal_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    server.error = ValueError("project not found")
    with pytest.raises(DeepSADError, match=r"W&B did not accept .*project not found.* make wandb-sync"):
        upload_dashboard(DASHBOARD)
