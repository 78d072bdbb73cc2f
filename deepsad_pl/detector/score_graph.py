"""A detector as one torch module without data-dependent branches, from raw input to scores, ready for export."""

from math import log, pi

import numpy as np
import torch
from torch import Tensor, nn

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.data.scaling import Scaling
from deepsad_pl.data.table_columns import TableColumns
from deepsad_pl.methods.base import TrainedMethod
from deepsad_pl.shallow.boosting import BoostedTrees
from deepsad_pl.shallow.detector_scores import EQUAL
from deepsad_pl.shallow.knn import NeighborModel
from deepsad_pl.shallow.models import DensityModel, ForestModel, KernelModel, Model, average_path_length
from deepsad_pl.shallow.tree_nodes import TreeNodes
from deepsad_pl.shallow.trees import TreesModel
from deepsad_pl.shallow.xgbod import XGBODModel


class ScoreGraph(nn.Module):
    """Maps raw input to the scores that :class:`~deepsad_pl.detector.detector.Detector` computes in full precision.

    Rows are float64, shape (B, D): numbers as they are, booleans as 0 and 1, categories as their positions in the
    sorted list of training categories (any other number: an unknown category), and NaN for an empty cell. Images are
    uint8, shape (B, C, H, W). Scores are float64, shape (B,); NaN for a row that cannot be scored.

    Args:
        prepare: maps raw input to prepared float32 samples.
        module: the trained module; None: ``model`` takes the prepared samples.
        model: the model of a shallow method, see :func:`model_graph`; None for a deep method.
    """

    def __init__(self, prepare: nn.Module, module: TrainedMethod | None, model: nn.Module | None) -> None:
        super().__init__()
        self.prepare, self.module, self.model = prepare, module, model

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B,)."""
        prepared = self.prepare(x)
        usable = prepared.flatten(1).isfinite().all(dim=1)
        prepared = prepared.nan_to_num(0.0, 0.0, 0.0)
        if self.model is None:
            assert self.module is not None
            score = self.module.score(prepared)
        else:
            features = prepared.flatten(1) if self.module is None else self.module.represent(prepared).float()
            score = self.model(features)
        score = score.double()
        # The score of a row far from the training data may overflow. It becomes NaN, because a program that compares
        # infinity with the threshold would not notice that the row has no score.
        return torch.where(usable & score.isfinite(), score, torch.nan)


class PixelInput(nn.Module):
    """Divides pixels (B, C, H, W) by ``scale``."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """uint8 -> float32 of the same shape."""
        return x.float() / self.scale


class PlainInput(nn.Module):
    """Passes on rows or arrays that need no preparation."""

    def forward(self, x: Tensor) -> Tensor:
        """float64 -> float32 of the same shape."""
        return x.float()


class ScaledInput(nn.Module):
    """Scales rows (B, D) like a :class:`~deepsad_pl.data.scaling.Scaling`; other shapes are flattened for it."""

    first_unit: Tensor
    second_unit: Tensor
    origin: Tensor
    first_spread: Tensor
    second_spread: Tensor
    shift: Tensor
    factor: Tensor

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.divides = scaling.method == "zscore"
        for name, exponents in (("unit", scaling.unit), ("spread", scaling.spread)):
            # In two steps: 2^-e itself may be too large for float64.
            halves = np.array([-e // 2 for e in exponents]), np.array([-e - (-e // 2) for e in exponents])
            for step, half in zip(("first", "second"), halves, strict=True):
                self.register_buffer(f"{step}_{name}", torch.from_numpy(np.ldexp(1.0, half)))
        for name in ("origin", "shift", "factor"):
            self.register_buffer(name, torch.tensor(getattr(scaling, name), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """float64 -> float32 of the same shape."""
        flat = x.flatten(1) * self.first_unit * self.second_unit - self.origin
        flat = flat * self.first_spread * self.second_spread
        flat = (flat - self.shift) / self.factor if self.divides else flat * self.factor + self.shift
        return flat.float().reshape(x.shape)


class TableInput(nn.Module):
    """Encodes rows of a table like :class:`~deepsad_pl.data.table_columns.TableColumns`."""

    fill: Tensor
    boolean: Tensor

    def __init__(self, columns: TableColumns) -> None:
        super().__init__()
        places = {column.name: place for place, column in enumerate(columns.columns)}
        scaled = [column for column in columns.columns if column.kind != "category"]
        self.scaled = [places[column.name] for column in scaled]
        self.register_buffer("fill", torch.tensor([column.fill for column in scaled], dtype=torch.float64))
        self.register_buffer("boolean", torch.tensor([column.kind == "boolean" for column in scaled]))
        self.scaling = None if columns.scaling is None else ScaledInput(columns.scaling)
        # Position, number of categories, whether an empty cell has an output column.
        self.added = [(places[one.name], len(one.categories), one.missing) for one in columns.columns]

    def forward(self, x: Tensor) -> Tensor:
        """float64 (B, columns) -> float32 (B, width); not finite where a column cannot have the given value."""
        parts: list[Tensor] = []
        if self.scaling is not None:
            numbers = x[:, self.scaled]
            wrong = self.boolean & (numbers != 0) & (numbers != 1)
            empty = numbers.isnan()
            numbers = torch.where(wrong & ~empty, torch.inf, torch.where(empty, self.fill, numbers))
            parts.append(self.scaling(numbers))
        for place, categories, missing in self.added:
            cells = x[:, place : place + 1]
            if categories:
                parts.append((cells == torch.arange(categories, dtype=x.dtype)).float())
            if missing:
                parts.append(cells.isnan().float())
        return torch.cat(parts, dim=1)


class _KernelGraph(nn.Module):
    rows: Tensor
    coef: Tensor

    def __init__(self, model: KernelModel) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(model.rows))
        self.register_buffer("coef", torch.from_numpy(np.ascontiguousarray(model.coef)))
        self.gamma, self.offset = model.gamma, model.offset

    def forward(self, x: Tensor) -> Tensor:
        return self.offset - torch.exp(-self.gamma * _squared_distances(x, self.rows)) @ self.coef


class _DensityGraph(nn.Module):
    rows: Tensor

    def __init__(self, model: DensityModel) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(model.rows))
        self.scale = 1 / (2 * model.bandwidth**2)
        self.constant = log(len(model.rows)) + model.width * (log(model.bandwidth) + log(2 * pi) / 2)

    def forward(self, x: Tensor) -> Tensor:
        distance2 = _squared_distances(x, self.rows)
        nearest = distance2.amin(dim=1)
        total = torch.exp(-self.scale * (distance2 - nearest[:, None])).sum(dim=1)
        return self.constant + self.scale * nearest - torch.log(total)


class _Leaves(nn.Module):
    left: Tensor
    right: Tensor
    feature: Tensor
    threshold: Tensor
    roots: Tensor

    def __init__(self, nodes: TreeNodes) -> None:
        super().__init__()
        for name in ("left", "right", "feature", "threshold", "roots"):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(getattr(nodes, name))))
        self.steps = nodes.steps

    def forward(self, x: Tensor) -> Tensor:
        node = self.roots.expand(x.shape[0], -1)
        for _ in range(self.steps):
            value = torch.gather(x.float(), 1, self.feature[node])
            node = torch.where(value.double() <= self.threshold[node], self.left[node], self.right[node])
        return node


class _ForestGraph(nn.Module):
    path: Tensor

    def __init__(self, model: ForestModel) -> None:
        super().__init__()
        self.leaves = _Leaves(model.nodes)
        self.register_buffer("path", torch.from_numpy(model.path))
        self.normalizer = model.normalizer

    def forward(self, x: Tensor) -> Tensor:
        if self.normalizer == 0:
            return x[:, 0].double() * 0 + 0.5
        return torch.exp2(-self.path[self.leaves(x)].sum(dim=1) / self.normalizer)


class _TreesGraph(nn.Module):
    share: Tensor

    def __init__(self, model: TreesModel) -> None:
        super().__init__()
        self.leaves = _Leaves(model.nodes)
        self.register_buffer("share", torch.from_numpy(np.ascontiguousarray(model.share)))

    def forward(self, x: Tensor) -> Tensor:
        return self.share[self.leaves(x)].mean(dim=1)


class _NeighborGraph(nn.Module):
    rows: Tensor
    anomalies: Tensor

    def __init__(self, model: NeighborModel) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(model.rows))
        self.is_ratio, self.neighbors = model.anomalies is not None, model.neighbors
        if model.anomalies is not None:
            self.register_buffer("anomalies", torch.from_numpy(model.anomalies))

    def forward(self, x: Tensor) -> Tensor:
        nearest = _squared_distances(x, self.rows).topk(self.neighbors, dim=1, largest=False).values
        distance = nearest.amax(dim=1).sqrt()
        if not self.is_ratio:
            return distance
        total = distance + _squared_distances(x, self.anomalies).amin(dim=1).sqrt()
        return torch.where(total > 0, distance / total, 0.5)


class _BoostedGraph(nn.Module):
    value: Tensor

    def __init__(self, boosted: BoostedTrees) -> None:
        super().__init__()
        self.leaves = _Leaves(boosted.nodes)
        self.register_buffer("value", torch.from_numpy(np.ascontiguousarray(boosted.value)))
        self.baseline = boosted.baseline

    def forward(self, x: Tensor) -> Tensor:
        return self.baseline + self.value[self.leaves(x)].sum(dim=1)


class _XGBODGraph(nn.Module):
    rows: Tensor
    neighbors: Tensor
    coef: Tensor
    offset: Tensor
    path: Tensor
    trees: Tensor

    def __init__(self, model: XGBODModel) -> None:
        super().__init__()
        detectors = model.detectors
        for name, array in (
            *(("rows", detectors.rows), ("neighbors", detectors.neighbors), ("trees", detectors.trees)),
            *(("coef", detectors.coef.T), ("offset", detectors.offset), ("path", detectors.forest.path)),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.largest, self.gamma = int(detectors.neighbors[-1]), detectors.gamma
        self.normalizer = float(average_path_length(np.array([detectors.forest.psi]))[0])
        self.isolation, self.boosted = _Leaves(detectors.forest.nodes), _BoostedGraph(model.boosted)

    def forward(self, x: Tensor) -> Tensor:
        norms = x.double().square().sum(dim=1)[:, None] + self.rows.double().square().sum(dim=1)[None, :]
        distance2 = _squared_distances(x, self.rows)
        distance2 = torch.where(distance2 <= EQUAL * norms, 0.0, distance2)
        nearest = distance2.topk(self.largest, dim=1, largest=False).values
        support = self.offset - torch.exp(-self.gamma * distance2) @ self.coef
        depth = self.path[self.isolation(x)].cumsum(dim=1)[:, self.trees - 1] / self.trees
        scores = [nearest[:, self.neighbors - 1].sqrt(), support, torch.exp2(-depth / self.normalizer)]
        found: Tensor = self.boosted(torch.cat([x, *(score.float() for score in scores)], dim=1))
        return found


_GRAPHS: dict[type[Model], type[nn.Module]] = {
    KernelModel: _KernelGraph,
    DensityModel: _DensityGraph,
    ForestModel: _ForestGraph,
    NeighborModel: _NeighborGraph,
    TreesModel: _TreesGraph,
    XGBODModel: _XGBODGraph,
}


def model_graph(model: Model) -> nn.Module:
    """A fitted shallow detector as a module: features (B, D) to scores (B,), in float64.

    Raises:
        DeepSADError: if its class does not belong to the package.
    """
    if type(model) not in _GRAPHS:
        raise DeepSADError(
            f"{type(model).__module__}.{type(model).__qualname__} computes its scores outside torch, so it cannot be "
            "exported; score with score.py or deepsad_pl.load"
        )
    return _GRAPHS[type(model)](model)


def input_graph(scale: float | None, preparation: object | None) -> nn.Module:
    """The preparation of raw input as a module.

    Args:
        scale: number by which pixels are divided; None for rows.
        preparation: preparation of raw rows; None: they are used unchanged.

    Raises:
        DeepSADError: if the class of the preparation does not belong to the package.
    """
    if scale is not None:
        return PixelInput(scale)
    if preparation is None:
        return PlainInput()
    if isinstance(preparation, Scaling):
        return ScaledInput(preparation)
    if isinstance(preparation, TableColumns):
        return TableInput(preparation)
    raise DeepSADError(
        f"{type(preparation).__module__}.{type(preparation).__qualname__} prepares the rows outside torch, so the "
        "detector cannot be exported; score with score.py or deepsad_pl.load"
    )


def _squared_distances(x: Tensor, rows: Tensor) -> Tensor:
    left, right = x.double(), rows.double()
    norms = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)[None, :]
    return (norms - 2 * left @ right.T).clamp(min=0)
