"""Report a study from its records: on disk, on the console and in W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepsad_pl.common.console import console
from deepsad_pl.common.counting import counted
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.common.files import write_atomic
from deepsad_pl.data.queried_labels import QueriedLabels
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.report import write_report
from deepsad_pl.report.budget import BudgetPoint, write_budget
from deepsad_pl.report.cells import Cell
from deepsad_pl.report.cells import Place as TablePlace
from deepsad_pl.report.known_novel import NAME
from deepsad_pl.report.measure import AUROC, measure_of
from deepsad_pl.report.show_ranks import show_ranks
from deepsad_pl.report.show_report import show_report
from deepsad_pl.study.differences import Differences
from deepsad_pl.study.experiments_frame import experiments_frame
from deepsad_pl.study.grid import Place, Study
from deepsad_pl.study.jobs import Planned
from deepsad_pl.study.results import exact_auroc, result_frames
from deepsad_pl.tracking.dashboard import PICTURES, Dashboard, upload_dashboard, write_dashboard
from deepsad_pl.tracking.loggers import logger_names, wandb_settings
from deepsad_pl.tracking.wandb_report import log_report
from deepsad_pl.tracking.wandb_run import destination_of

if TYPE_CHECKING:
    import pandas as pd


def report_study(
    folder: Path,
    study: Study,
    planned: Sequence[Planned],
    *,
    records: Mapping[Path, dict[str, Any]],
    own_cells: Sequence[Place],
    differences: Differences,
    logger: Mapping[str, Any],
    overrides: Sequence[str],
    blank: int = 0,
    notes: Sequence[str] = (),
    form: FigureFormat = PAGE,
) -> None:
    """Write the report, print it, and log it to W&B if the experiments were logged there.

    Args:
        folder: folder of the study.
        study: the whole study.
        planned: the requested experiments.
        records: records of the finished experiments, by run folder.
        own_cells: all cells in the report, with the study's own classes and seeds.
        differences: how the experiments differ from the study's own.
        logger: settings of the loggers.
        overrides: overrides that all experiments share.
        blank: number of requested experiments that the data cannot have.
        notes: sentences that come first beneath the table.
        form: size of the figures.

    Raises:
        DeepSADError: if nothing is finished.
    """
    if study.figure == "ranks":
        _report_ranks(folder, study, planned, records, blank, differences.settings, logger, overrides, form)
        return
    axes = list(study.axes)
    results, by_known = result_frames(planned, records, study, own_cells)
    report = write_report(
        folder,
        results,
        name=study.name,
        title=study.title,
        axes=axes,
        run_with=differences.settings,
        with_paper=study.paper and differences.comparable,
        with_figure=study.figure == "auroc",
        metric=study.metric,
        by_known=by_known,
        notes=notes,
        form=form,
    )
    files = report.files
    if study.figure == "budget":
        shown = {cell.place: cell for cell in report.cells}
        points = _budget(study, planned, records, shown)
        files = [
            *files,
            *write_budget(folder, study.title, points, differences.settings, measure_of(study.metric), form),
        ]
    if study.figure == "regions":
        # Imported here because it loads torch: the trained models score every point of the plane.
        from deepsad_pl.report.toy_figure import draw_study

        files = [*files, *draw_study(folder, _finished(planned, records), run_with=differences.settings, form=form)]
    show_report(report)
    _log(folder, study, report.frames(), files, differences.settings, logger, overrides)


def report_results(path: Path, title: str, metric: str = "auroc", form: FigureFormat = PAGE) -> None:
    """Report a benchmark from its ``results.csv`` alone, into the file's folder.

    Args:
        path: a ``results.csv`` that a study has written.
        title: title of the report.
        metric: the metric of its ranks.
        form: size of the figures.

    Raises:
        DeepSADError: if the file cannot be read, or no ranks can be made of it.
    """
    from deepsad_pl.report.benchmark_results import read_results
    from deepsad_pl.report.ranks_page import write_ranks

    write_ranks(read_results(path), path.parent, metric, title, form)
    show_ranks(title, path.parent)


def _report_ranks(
    folder: Path,
    study: Study,
    planned: Sequence[Planned],
    records: Mapping[Path, dict[str, Any]],
    blank: int,
    run_with: Sequence[str],
    logger: Mapping[str, Any],
    overrides: Sequence[str],
    form: FigureFormat,
) -> None:
    # Imported here because it loads statistical libraries, which take seconds.
    from deepsad_pl.report.benchmark_results import read_results
    from deepsad_pl.report.ranks_page import write_ranks

    if not records:
        raise DeepSADError(
            f"no experiment of the study {study.name} is finished; run it first: python sweep.py study={study.name}"
        )
    # A row says which seed it is.
    differing = [setting for setting in run_with if not setting.startswith("seed=")]
    path, frame = folder / "results.csv", experiments_frame(planned, records, differing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, frame.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise DeepSADError(f"{path} cannot be written ({error}); set output_dir to a writable folder") from error
    # The file alone makes the report, so that it can be made again where there are no run folders.
    results = read_results(path)
    runs = {record["hash"]: run_dir for run_dir, record in records.items()}
    progress = f"{len(results):,} of {counted(_number_of(planned), 'experiment')} finished"
    if blank:
        progress += f", {blank:,} blank, since their data have too few anomalies"
    files = [path, *write_ranks(results, folder, study.metric, study.title, form, runs=runs, progress=progress)]
    show_ranks(study.title, folder)
    _log(folder, study, {"results": results}, files, run_with, logger, overrides)


def _log(
    folder: Path,
    study: Study,
    tables: Mapping[str, "pd.DataFrame"],
    files: Sequence[Path],
    run_with: Sequence[str],
    logger: Mapping[str, Any],
    overrides: Sequence[str],
) -> None:
    """Log a report to W&B if the experiments were logged there."""
    if (wandb := wandb_settings(logger)) is not None:
        log_report(
            folder,
            destination_of(wandb, group=study.name),
            tables=tables,
            files=files,
            config={
                "study.name": study.name,
                "study.overrides": list(overrides),
                "study.run_with": list(run_with),
            },
        )


def dashboard_of(folder: Path, study: Study, *, logger: Mapping[str, Any]) -> None:
    """Write the specification of the study's W&B workspace, and upload it if a user is logged in.

    Args:
        folder: folder of the study.
        study: the requested study.
        logger: settings of the logger.

    Raises:
        DeepSADError: if the experiments are not logged to W&B, the workspace library is missing, or W&B refuses.
    """
    if (wandb := wandb_settings(logger)) is None:
        raise DeepSADError(f"action=dashboard needs W&B, but logger is {logger_names(logger)}; use logger=wandb")
    dashboard = Dashboard(
        name=study.title,
        project=wandb["project"],
        entity=wandb["entity"],
        group=wandb["group"] or study.name,
        axes=[study.keys[axis] for axis in study.axes],
        datasets=list(study.datasets),
        metric=study.metric,
        pictures=[*PICTURES, *([NAME] if (folder / f"{NAME}.png").exists() else [])],
    )
    path = write_dashboard(folder, dashboard)
    console.print(f"dashboard: {path}", markup=False, soft_wrap=True)
    url = upload_dashboard(dashboard)
    told = (
        f"uploaded: {url}"
        if url
        else "not uploaded, since W&B has no login; run wandb login and make wandb-sync, then this command again"
    )
    console.print(told, markup=False, soft_wrap=True)


def _budget(
    study: Study,
    planned: Sequence[Planned],
    records: Mapping[Path, Mapping[str, Any]],
    shown: Mapping[TablePlace, Cell],
) -> list[BudgetPoint]:
    """The finished experiments in which labels are asked for and that have the metric, round 0 for each strategy.

    Args:
        study: the study.
        planned: the requested experiments.
        records: records of the finished experiments, by run folder.
        shown: the cells of the table; experiments of variants that they do not show are left out.
    """
    axis = next((axis for axis, key in study.keys.items() if key == "scenario.query_by"), None)
    points: dict[BudgetPoint, None] = {}
    for part in planned:
        for place in part.places:
            plan = part.jobs[place.experiment].plan
            record, scenario = records.get(plan.run_dir), plan.scenario
            if record is None or not isinstance(scenario, QueriedLabels):
                continue
            cell = shown.get((plan.dataset.name, place.row, place.column))
            if cell is None or cell.variant != place.variant:
                continue
            value = exact_auroc(plan.run_dir, record) if study.metric == AUROC.name else record.get(study.metric)
            if value is None:
                continue
            strategy = dict(zip(study.axes, place.row, strict=True)).get(axis or "", scenario.by)
            point = BudgetPoint(
                plan.dataset.name,
                place.column,
                str(strategy),
                scenario.labels,
                place.seed,
                place.normal_class,
                value,
                record["counts"]["labeled_anomalies"],
                bool(cell.test_informed),
            )
            points[point] = None
    return list(points)


def _number_of(planned: Sequence[Planned]) -> int:
    return len({job.plan.run_dir for part in planned for job in part.unique})


def _finished(planned: Sequence[Planned], records: Mapping[Path, object]) -> list[Plan]:
    plans = {job.plan.run_dir: job.plan for part in planned for job in part.unique}
    return [plan for run_dir, plan in plans.items() if run_dir in records]
