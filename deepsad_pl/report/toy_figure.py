"""Figure 1: the training data, and for each method the test data on the region that it considers normal."""

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from deepsad_pl.common.checkpoints import DamagedError, from_bytes
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.data.sources import Source
from deepsad_pl.experiment.build import build, load_data
from deepsad_pl.experiment.finished import CHECKPOINTS, record_of
from deepsad_pl.experiment.fit_shallow import MODEL, of_package
from deepsad_pl.experiment.from_test_labels import is_test_informed
from deepsad_pl.experiment.plan import Plan
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.report.legends import Entry, legend
from deepsad_pl.report.style import SMALL, line_height, look, new_figure, save, set_title
from deepsad_pl.report.text_width import wrapped
from deepsad_pl.settings.about import MethodAbout
from deepsad_pl.shallow.models import load_model
from deepsad_pl.training.restorable import require_state

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NORMAL, KNOWN, NOVEL = range(3)

# For a method without its own threshold, the share of unlabeled training rows that counts as normal.
NORMAL_SHARE = 0.95

_POINTS_A_SIDE, _MARGIN = 160, 0.08
_PANELS_ON_A_PAGE, _PANELS_IN_A_COLUMN = 4, 2
_SHADES = 6
# The inside is lighter than all shades of the outside, so that the regions differ in greyscale, too.
_INSIDE, _OUTSIDE = "#e6f3fc", ["#dedede", "#adadad"]
# Okabe and Ito's blue, orange and vermilion; in greyscale the markers distinguish them.
_LOOKS: dict[int, dict[str, Any]] = {
    NORMAL: {"color": "#0072B2", "marker": "o", "markersize": 2.6, "markeredgewidth": 0},
    KNOWN: {"color": "#E69F00", "marker": "D", "markersize": 4.2, "markeredgecolor": "black", "markeredgewidth": 0.5},
    NOVEL: {"color": "#D55E00", "marker": "^", "markersize": 4.6, "markeredgecolor": "black", "markeredgewidth": 0.5},
}
_FULL_SIZE = 2.4  # width of a panel, in inches, for which the marker sizes are meant
_REGION: dict[str, Any] = {
    "marker": "s",
    "markersize": 6.0,
    "markerfacecolor": _INSIDE,
    "markeredgecolor": "black",
    "linestyle": "none",
}
_MEANINGS = {NORMAL: "normal, in (a) unlabeled", KNOWN: "known anomaly class", NOVEL: "novel anomaly class"}


@dataclass(frozen=True)
class Cloud:
    """Data points to draw.

    Attributes:
        x: coordinates, shape (N, 2).
        kind: :data:`NORMAL`, :data:`KNOWN` or :data:`NOVEL` for every point, shape (N,).
    """

    x: npt.NDArray[Any]
    kind: IntArray


@dataclass(frozen=True)
class Plane:
    """A rectangular grid of points in the plane.

    Attributes:
        horizontal: horizontal coordinates, ascending, shape (W,).
        vertical: vertical coordinates, ascending, shape (H,).
    """

    horizontal: FloatArray
    vertical: FloatArray

    @property
    def points(self) -> FloatArray:
        """All points of the grid, row by row, shape (H * W, 2)."""
        grid = np.meshgrid(self.horizontal, self.vertical)
        return np.stack([axis.ravel() for axis in grid], axis=1)


@dataclass(frozen=True)
class ToyPanel:
    """A method's scores over the plane.

    Attributes:
        title: title of the panel, one or two lines.
        scores: scores at the points of the plane, shape (H, W); higher is more anomalous.
        threshold: the highest score that is considered normal.
    """

    title: str
    scores: FloatArray
    threshold: float


def draw_study(
    folder: Path, plans: Sequence[Plan], run_with: Sequence[str] = (), form: FigureFormat = PAGE
) -> list[Path]:
    """Draw Figure 1 from finished experiments, one panel each, in their order.

    All panels show the same test set, so only experiments with the seed, normal classes and scaling of the first one
    are drawn. The training data are from the experiment with the most labeled anomalies.

    Args:
        folder: folder for the files.
        plans: plans of finished experiments on two-dimensional data.
        run_with: settings that differ from the study's own.
        form: size of the figure.

    Returns:
        ``figure.png`` and ``figure.svg``.

    Raises:
        DeepSADError: if there is no experiment, or one is not finished, has lost its models or has data that are not
            two-dimensional.
    """
    if not plans:
        raise DeepSADError("there is no finished experiment to draw; run the study first")
    plans = [plan for plan in plans if _what_is_drawn(plan) == _what_is_drawn(plans[0])]
    source = load_data(plans[0])
    if source.shape != (2,):
        raise DeepSADError(
            f"dataset={plans[0].dataset.name} has samples of shape {source.shape}, but regions are drawn in the "
            "plane, (2,); use dataset=toy, or study.figure=auroc"
        )
    shown = max(plans, key=lambda plan: (plan.scenario.label_count or 0, plan.scenario.gamma_l))
    test = Cloud(source.x_test, _kinds(source.labels_test, shown))
    plane = plane_around(np.concatenate([source.x_train, source.x_test]))
    panels = [_panel_of(plan, source, plane) for plan in plans]
    return draw_toy(folder, _training_cloud(shown, source), test, plane, panels, " ".join(run_with), form)


def score_grid(plan: Plan, source: Source, points: npt.NDArray[Any]) -> FloatArray:
    """Score arbitrary points with the trained model of a finished experiment.

    Args:
        plan: plan of the experiment.
        source: data of the experiment.
        points: points to score, shape (N, D), scaled like the rows of the source.

    Returns:
        Anomaly scores, shape (N,); higher is more anomalous.

    Raises:
        DeepSADError: if the experiment is not finished or has lost its models.
    """
    _record(plan)
    x, folder = np.ascontiguousarray(points, dtype=np.float32), plan.run_dir / CHECKPOINTS
    phases = build(plan, source).phases
    if not plan.about.shallow:
        module = _trained(phases[-1].module, folder / "last.ckpt")
        with torch.no_grad():
            return module.score(torch.from_numpy(x)).double().numpy()
    if plan.method.features == "bottleneck":
        module = _trained(phases[0].module, folder / "pretrain.ckpt")
        with torch.no_grad():
            x = module.represent(torch.from_numpy(x)).float().numpy()
    return load_model(folder / MODEL, of_package(plan)).score(x)


def plane_around(x: npt.NDArray[Any]) -> Plane:
    """A grid that covers all rows of x, shape (N, 2), with a margin."""
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    margin = _MARGIN * (high - low)
    sides = np.linspace(low - margin, high + margin, _POINTS_A_SIDE)
    return Plane(sides[:, 0], sides[:, 1])


def draw_toy(
    folder: Path,
    training: Cloud,
    test: Cloud,
    plane: Plane,
    panels: Sequence[ToyPanel],
    run_with: str = "",
    form: FigureFormat = PAGE,
) -> list[Path]:
    """Draw the figure from arrays; equal arrays give files with equal bytes.

    Args:
        folder: folder for the files; created if missing.
        training: training data, shown in the first panel.
        test: test data, shown in all other panels.
        plane: grid on which the panels' scores were computed.
        panels: one panel per method.
        run_with: settings that differ from the study's own, shown above the panels; may be empty.
        form: size of the figure.

    Returns:
        ``figure.png`` and ``figure.svg``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wide = min(len(panels) + 1, _PANELS_IN_A_COLUMN if form.is_column else _PANELS_ON_A_PAGE)
    high = math.ceil((len(panels) + 1) / wide)
    pitch = min(form.inches / wide, 2.4)
    titles = ["(a) Training data\n" + _count(training)]
    titles += [f"({letter}) {panel.title}" for letter, panel in zip(string.ascii_lowercase[1:], panels, strict=False)]
    titles = ["\n".join(wrapped(line, pitch - 0.08, SMALL) for line in title.split("\n")) for title in titles]
    lines = max(title.count("\n") + 1 for title in titles)
    with look(**{"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure = new_figure(pitch * wide, (0.85 * pitch + line_height(SMALL) * lines + 0.1) * high)
        figure.set_layout_engine("constrained", w_pad=0.02, wspace=0.0)
        places = list(figure.subplots(high, wide, squeeze=False).flat)
        _scatter(places[0], training, pitch)
        for place, panel in zip(places[1:], panels, strict=False):
            _shade(place, plane, panel)
            _scatter(place, test, pitch)
        for place, title in zip(places, titles, strict=False):
            place.set_title(title, fontsize=SMALL)
            place.set_xlim(plane.horizontal[0], plane.horizontal[-1])
            place.set_ylim(plane.vertical[0], plane.vertical[-1])
            place.set_xticks([])
            place.set_yticks([])
        for unused in places[len(panels) + 1 :]:
            unused.set_axis_off()
        entries = [Entry(_MEANINGS[kind], {**looks, "linestyle": "none"}) for kind, looks in _LOOKS.items()]
        legend(figure, [*entries, Entry("region deemed normal", _REGION)])
        if run_with:
            set_title(figure, "", f"run with {run_with}")
        return save(figure, folder, "figure", form)


def _shade(place: Axes, plane: Plane, panel: ToyPanel) -> None:
    """Fill the normal region with one color, and the rest with shades that darken with the score."""
    scores, threshold = panel.scores, panel.threshold
    place.set_facecolor(_INSIDE)
    outside = scores[scores > threshold]
    if not len(outside):
        return
    # Shades cover equal areas, since scores such as distances and log odds have no common scale.
    edges = np.unique(np.quantile(outside, np.linspace(0, 1, _SHADES + 1)[1:]))
    edges = np.concatenate([[threshold], edges[edges > threshold]])
    edges[-1] = np.nextafter(edges[-1], np.inf)
    shades = LinearSegmentedColormap.from_list("outside", _OUTSIDE)(np.linspace(0, 1, len(edges) - 1))
    axes = plane.horizontal, plane.vertical
    place.contourf(*axes, scores, levels=edges, colors=list(shades), zorder=0)
    if scores.min() < threshold:
        place.contour(*axes, scores, levels=[threshold], colors="black", linewidths=1.2, linestyles="solid", zorder=1)


def _scatter(place: Axes, cloud: Cloud, pitch: float) -> None:
    """Draw points, whose size follows that of the panel."""
    for kind, looks in _LOOKS.items():
        x = cloud.x[cloud.kind == kind]
        shape = {**looks, "markersize": looks["markersize"] * pitch / _FULL_SIZE}
        place.plot(x[:, 0], x[:, 1], linestyle="none", zorder=2 + kind, **shape)


def _count(training: Cloud) -> str:
    counts = np.bincount(training.kind, minlength=3)
    return f"{counts[NORMAL]} unlabeled, {counts[KNOWN]} labeled"


def _panel_of(plan: Plan, source: Source, plane: Plane) -> ToyPanel:
    record, facts = _record(plan), plan.about
    informed = ", test-informed" if is_test_informed(plan, record) else ""
    kind = f"{_kind_of(facts)}: {facts.title or facts.heading or plan.method.name}"
    title = f"{kind}\nAUROC {100 * record['auroc']:.1f}%{informed}"
    scores = score_grid(plan, source, plane.points).reshape(len(plane.vertical), len(plane.horizontal))
    threshold = facts.threshold
    if threshold is None:
        data = build(plan, source).data
        rows = source.x_train[data.training_set.index[data.training_set.semi_y == 0]]
        threshold = float(np.quantile(score_grid(plan, source, rows), NORMAL_SHARE))
    return ToyPanel(title, scores, threshold)


def _kind_of(facts: MethodAbout) -> str:
    if facts.threshold is not None:
        return "Supervised"
    return "Unsupervised" if facts.labels == "hidden" else "Semi-supervised"


def _what_is_drawn(plan: Plan) -> tuple[object, ...]:
    return plan.dataset.name, plan.dataset.scaling, plan.seed, plan.scenario.normal_classes


def _kinds(labels: IntArray, plan: Plan) -> IntArray:
    normal, known = (np.isin(labels, of) for of in (plan.scenario.normal_classes, plan.scenario.known_classes))
    return np.where(normal, NORMAL, np.where(known, KNOWN, NOVEL))


def _training_cloud(plan: Plan, source: Source) -> Cloud:
    drawn = build(plan, source).data.training_set
    return Cloud(source.x_train[drawn.index], np.where(drawn.semi_y == -1, KNOWN, NORMAL))


def _record(plan: Plan) -> dict[str, Any]:
    record = record_of(plan)
    if record is None:
        raise DeepSADError(f"{plan.run_dir} holds no record, so its experiment is not finished; run it to its end")
    return record


def _trained(module: TrainedMethod, path: Path) -> TrainedMethod:
    """Load the module's trained state and return it in evaluation mode."""
    try:
        state: Any = from_bytes(path.read_bytes()).get("state_dict")
        require_state(state, module)
    except (FileNotFoundError, DamagedError) as error:
        raise DeepSADError(
            f"the trained model {path} is missing or damaged; run the experiment again with force=true"
        ) from error
    module.load_state_dict(state)
    return module.eval()
