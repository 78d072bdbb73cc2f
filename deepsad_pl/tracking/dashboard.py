r"""The dashboard of a study: a saved workspace of W&B, written as a file and uploaded when somebody is logged in.

The keys of our configuration are flat and have dots (``scenario.gamma_l``). W&B wraps the value of each of its keys,
so such a run is ``{"scenario.gamma_l": {"value": 0.05}}`` to it, and panels, columns and groups must say
``scenario.gamma_l.value``; ``scenario.value.gamma_l`` would be a key ``scenario`` that holds a dictionary. There is no
escape for the dot. The workspace library cannot know which of the two is meant and takes the second, except where a
name that already has ``value`` in it is let through (groups and bars); scatter plots and parallel coordinates are
mended here. Filters on such keys are not dependable in W&B, so only the group of the runs is filtered.

A panel cannot choose among the runs of its workspace either, so there is no panel for each data set: where a study has
several, the runs are grouped by the data set as well. The figure of the study's report, which has one panel for each,
stands in the dashboard.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.files import write_atomic
from deepsad_pl.tracking.trackers import SCORES, TEST
from deepsad_pl.tracking.wandb_report import report_key

WORKSPACE = "workspace.json"
AUROC = f"{TEST}/auroc"
METHOD = "method.name"
DATASET = "dataset.name"
PICTURES = ("figure", "scatter")
TABLE = "table"
# Their values lie orders of magnitude apart.
_LOG_AXES = ("method.eta",)
# Takes the place of the group's name, in which the library would mistake "=" and quotes for its own.
_GROUP = "group"
# Of a study with three data sets, eleven methods and five values of its axis, and some more.
_GROUPS = 200


@dataclass(frozen=True)
class Dashboard:
    """What a dashboard shows, and where.

    Attributes:
        name: of the workspace.
        project: where the runs are.
        entity: whose project it is; None for the account's default.
        group: of the study's runs; no others are shown.
        axes: the settings that the study varies, by their keys in the configuration, such as ``scenario.gamma_l``;
            none is allowed.
        datasets: names of the study's data sets.
    """

    name: str
    project: str
    entity: str | None
    group: str
    axes: Sequence[str]
    datasets: Sequence[str]


def workspace_spec(dashboard: Dashboard) -> dict[str, Any]:
    """The workspace as W&B's own library would send it; the same dashboard gives the same specification.

    Raises:
        DeepSADError: if the library is not installed.
    """
    view = _workspace(dashboard)._to_model()
    spec: dict[str, Any] = view.model_dump(mode="json", by_alias=True, exclude_none=True)
    # Id and name are given out by W&B, and so is the default entity.
    return {key: value for key, value in spec.items() if value != ""}


def write_dashboard(folder: Path, dashboard: Dashboard) -> Path:
    """Write :func:`workspace_spec` as ``workspace.json``.

    Args:
        folder: of the study's report; made if there is none.
        dashboard: of the study.

    Returns:
        The file.

    Raises:
        DeepSADError: if the library is not installed.
    """
    spec = workspace_spec(dashboard)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WORKSPACE
    write_atomic(path, json.dumps(spec, indent=2, sort_keys=True) + "\n")
    return path


def upload_dashboard(dashboard: Dashboard) -> str | None:
    """Save the workspace in W&B, as a new one each time.

    Returns:
        Its address, or None if nobody is logged in: W&B is not asked then.

    Raises:
        DeepSADError: if the library is not installed, or W&B cannot be reached or refuses.
    """
    import wandb

    _library()
    try:
        if not logged_in():
            return None
        owner = dashboard.entity or wandb.Api().default_entity
        workspace = _workspace(replace(dashboard, entity=owner))
        workspace.save()
        return str(workspace.url)
    except Exception as error:
        raise DeepSADError(
            f"W&B does not take the workspace {dashboard.name} for the project {dashboard.project} "
            f"({type(error).__name__}: {error}); upload the runs first with make wandb-sync, and see that "
            "logger.project and logger.entity are right"
        ) from error


def logged_in() -> bool:
    """Whether there is a key of an account; nobody is asked for one, and without one nothing is sent."""
    import wandb

    if "prompt" in inspect.signature(wandb.login).parameters:
        return wandb.login(prompt=False, verify=False)
    # An older W&B.
    return bool(wandb.api.api_key)


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise DeepSADError(
            f"action=dashboard needs W&B's workspace library, which cannot be imported ({error}); "
            "run pip install 'deepsad-pl[dashboard]'"
        ) from error
    return workspaces, panels


def _workspace(dashboard: Dashboard) -> Any:
    ws, _ = _library()
    base = ws.Workspace
    axes, datasets = dashboard.axes, dashboard.datasets
    keys = [METHOD, *([DATASET] if len(datasets) > 1 else []), *axes]

    # The library saves what this method returns.
    class Workspace(base):  # type: ignore[misc, valid-type]
        def _to_model(self) -> Any:
            return _mended(super()._to_model(), [DATASET, *keys], dashboard.group)

    return Workspace(
        entity=dashboard.entity or "",
        project=dashboard.project,
        name=dashboard.name,
        sections=[
            ws.Section(name="AUROC", is_open=True, pinned=True, panels=_auroc_panels(axes, datasets)),
            ws.Section(name="Report", is_open=True, panels=_report_panels()),
            ws.Section(name="Scores (show one run)", is_open=True, panels=_score_panels()),
            ws.Section(name="Runs", is_open=True, panels=_run_panels()),
        ],
        settings=ws.WorkspaceSettings(max_runs=_GROUPS),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == _GROUP),
            # Scatter plots and parallel coordinates show the mean of each group: a value of the axis is one.
            groupby=[ws.Config(_stored(key)) for key in keys],
            order=[ws.Ordering(ws.Metric("Name"), ascending=True)],
            pinned_columns=[
                "run:displayName",
                *(f"config:{_stored(key)}" for key in dict.fromkeys([DATASET, *keys])),
                f"summary:{AUROC}",
            ],
        ),
    )


def _auroc_panels(axes: Sequence[str], datasets: Sequence[str]) -> list[Any]:
    _, wr = _library()
    auroc = wr.SummaryMetric(AUROC)
    over = [
        wr.ScatterPlot(
            title=f"AUROC over {axis.split('.')[-1]}, mean of each method",
            x=wr.Config(axis),
            y=auroc,
            log_x=axis in _LOG_AXES,
        )
        for axis in axes
    ]
    by = [
        wr.BarPlot(
            title=f"AUROC by {key.split('.')[0]}",
            metrics=[AUROC],
            orientation="v",
            groupby=wr.Config(_stored(key)),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=_GROUPS,
            max_bars_to_show=_GROUPS,
        )
        for key in (METHOD, *([DATASET] if len(datasets) > 1 else []))
    ]
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in (DATASET, METHOD, *axes)]
    lines = wr.ParallelCoordinatesPlot(
        title="AUROC by data set, method and axis",
        columns=[*columns, wr.ParallelCoordinatesPlotColumn(auroc)],
    )
    return [*over, *by, lines]


def _report_panels() -> list[Any]:
    _, wr = _library()
    pictures = [
        wr.MediaBrowser(title=name, num_columns=1, media_keys=[report_key(name)], gallery_axis="run")
        for name in PICTURES
    ]
    return [*pictures, wr.WeavePanelSummaryTable(table_name=report_key(TABLE))]


def _score_panels() -> list[Any]:
    _, wr = _library()
    return [wr.LinePlot(title=key, y=[key]) for key in SCORES]


def _run_panels() -> list[Any]:
    _, wr = _library()
    return [wr.RunComparer(diff_only="split")]


def _stored(key: str) -> str:
    """Where W&B keeps the value of a flat key."""
    return f"{key}.value"


def _mended(view: Any, keys: Sequence[str], group: str) -> Any:
    """The library's model with our flat keys and our group, and with ids that are the same each time."""
    (runset,) = view.spec.section.run_sets
    (only,) = runset.filters["filters"]
    only["value"] = group
    flat = {}
    for key in keys:
        first, _, rest = key.partition(".")
        flat[f"config:{first}.value.{rest}"] = f"config:{_stored(key)}"
    for section in view.spec.section.panel_bank_config.sections:
        for number, panel in enumerate(section.panels):
            panel.id = hashlib.sha256(f"{group}/{section.name}/{number}".encode()).hexdigest()[:12]
            if panel.view_type == "Scatter Plot":
                panel.config.x_axis = flat.get(panel.config.x_axis, panel.config.x_axis)
            elif panel.view_type == "Parallel Coordinates Plot":
                for column in panel.config.columns:
                    column.accessor = flat.get(column.accessor, column.accessor)
    return view
