r"""The dashboard of a study: a saved W&B workspace, written to a file and uploaded if a user is logged in.

The keys of our configuration are flat and contain dots (``scenario.gamma_l``). W&B wraps the value of each key, so it
stores ``{"scenario.gamma_l": {"value": 0.05}}``, and panels, columns and groups must refer to
``scenario.gamma_l.value``. The dot cannot be escaped, so the workspace library assumes a nested dictionary and writes
``scenario.value.gamma_l`` instead. Only groups and bar plots accept a name that already contains ``value``; for scatter
plots and parallel coordinates this module corrects the key. W&B does not filter reliably on such keys, so runs are
filtered by their group only.

A panel cannot select some of the workspace's runs either, so there is no panel per data set: if a study has several
data sets, the runs are grouped by data set as well. The dashboard also shows the figure of the study's report, which
does have one panel per data set.
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
_TITLES = {"auroc": "AUROC", "auroc_known": "AUROC (known)", "auroc_novel": "AUROC (novel)"}
# Settings whose values lie orders of magnitude apart.
_LOG_AXES = ("method.eta",)
# Placeholder for the group's name: the library would parse "=" and quotes in the real one as its own syntax.
_GROUP = "group"
# Enough for a study with three data sets, eleven methods and five values on its axis (165 groups).
_GROUPS = 200


@dataclass(frozen=True)
class Dashboard:
    """What a dashboard shows, and where.

    Attributes:
        name: name of the workspace.
        project: where the runs are.
        entity: owner of the project; None for the account's default.
        group: group of the study's runs; no others are shown.
        axes: configuration keys of the settings that the study varies, such as ``scenario.gamma_l``; may be empty.
        datasets: names of the study's data sets.
        metric: the metric of the panels, as in a record.
        pictures: names of the report's pictures.
    """

    name: str
    project: str
    entity: str | None
    group: str
    axes: Sequence[str]
    datasets: Sequence[str]
    metric: str = "auroc"
    pictures: Sequence[str] = PICTURES

    @property
    def key(self) -> str:
        """The key of the metric in a run's summary."""
        return f"{TEST}/{self.metric}"

    @property
    def title(self) -> str:
        """The metric in words."""
        return _TITLES.get(self.metric, self.metric)


def workspace_spec(dashboard: Dashboard) -> dict[str, Any]:
    """Return the specification that W&B's workspace library would upload; it is the same for equal dashboards.

    Raises:
        DeepSADError: if the library is not installed.
    """
    view = _workspace(dashboard)._to_model()
    spec: dict[str, Any] = view.model_dump(mode="json", by_alias=True, exclude_none=True)
    # W&B itself assigns the id, the internal name and the default entity.
    return {key: value for key, value in spec.items() if value != ""}


def write_dashboard(folder: Path, dashboard: Dashboard) -> Path:
    """Write :func:`workspace_spec` as ``workspace.json``.

    Args:
        folder: folder of the study's report; created if missing.
        dashboard: the study's dashboard.

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
        Its URL, or None if no user is logged in; W&B is not contacted then.

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
            f"W&B did not accept the workspace {dashboard.name} for the project {dashboard.project} "
            f"({type(error).__name__}: {error}); upload the runs first with make wandb-sync, and check "
            "logger.project and logger.entity"
        ) from error


def logged_in() -> bool:
    """Whether an API key is available; never prompts for one, and sends nothing without one."""
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
            return _fixed(super()._to_model(), [DATASET, *keys], dashboard.group)

    return Workspace(
        entity=dashboard.entity or "",
        project=dashboard.project,
        name=dashboard.name,
        sections=[
            ws.Section(name=dashboard.title, is_open=True, pinned=True, panels=_metric_panels(dashboard)),
            ws.Section(name="Report", is_open=True, panels=_report_panels(dashboard.pictures)),
            ws.Section(name="Scores (show one run)", is_open=True, panels=_score_panels()),
            ws.Section(name="Runs", is_open=True, panels=_run_panels()),
        ],
        settings=ws.WorkspaceSettings(max_runs=_GROUPS),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == _GROUP),
            # Scatter plots and parallel coordinates show group means, so each value of an axis needs its own group.
            groupby=[ws.Config(_stored(key)) for key in keys],
            order=[ws.Ordering(ws.Metric("Name"), ascending=True)],
            pinned_columns=[
                "run:displayName",
                *(f"config:{_stored(key)}" for key in dict.fromkeys([DATASET, *keys])),
                f"summary:{dashboard.key}",
            ],
        ),
    )


def _metric_panels(dashboard: Dashboard) -> list[Any]:
    _, wr = _library()
    axes, datasets = dashboard.axes, dashboard.datasets
    metric = wr.SummaryMetric(dashboard.key)
    over = [
        wr.ScatterPlot(
            title=f"{dashboard.title} over {axis.split('.')[-1]}, mean of each method",
            x=wr.Config(axis),
            y=metric,
            log_x=axis in _LOG_AXES,
        )
        for axis in axes
    ]
    by = [
        wr.BarPlot(
            title=f"{dashboard.title} by {key.split('.')[0]}",
            metrics=[dashboard.key],
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
        title=f"{dashboard.title} by data set, method and axis",
        columns=[*columns, wr.ParallelCoordinatesPlotColumn(metric)],
    )
    return [*over, *by, lines]


def _report_panels(names: Sequence[str]) -> list[Any]:
    _, wr = _library()
    pictures = [
        wr.MediaBrowser(title=name, num_columns=1, media_keys=[report_key(name)], gallery_axis="run") for name in names
    ]
    return [*pictures, wr.WeavePanelSummaryTable(table_name=report_key(TABLE))]


def _score_panels() -> list[Any]:
    _, wr = _library()
    return [wr.LinePlot(title=key, y=[key]) for key in SCORES]


def _run_panels() -> list[Any]:
    _, wr = _library()
    return [wr.RunComparer(diff_only="split")]


def _stored(key: str) -> str:
    """The path under which W&B stores the value of a flat key."""
    return f"{key}.value"


def _fixed(view: Any, keys: Sequence[str], group: str) -> Any:
    """Correct the library's model: insert our flat keys and group, and make the panel ids deterministic."""
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
