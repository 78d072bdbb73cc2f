"""The training samples of a finished run, with their names in an output."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deepsad_pl.commands.loading import planned

if TYPE_CHECKING:
    from deepsad_pl.data.sources import Source
    from deepsad_pl.detector.inputs import Inputs, Prepared
    from deepsad_pl.detector.read_input import Chunk
    from deepsad_pl.experiment.plan import Plan


@dataclass(frozen=True)
class TrainingSamples:
    """The training samples of a finished run, including those that calibrate its threshold.

    Attributes:
        plan: plan of the run.
        source: its data, prepared as for the training.
        index: positions of the samples in the source, shape (N,).
        semi_y: 0 unlabeled, +1 known normal, -1 known anomaly, shape (N,).
        called: kind of the names, ``id`` or ``path``.
        names: names of all samples of the source; None: they have no names, so their positions are used.
    """

    plan: "Plan"
    source: "Source"
    index: npt.NDArray[np.int64]
    semi_y: npt.NDArray[np.int64]
    called: str
    names: list[str] | None

    def named(self, part: npt.NDArray[np.int64]) -> list[Any]:
        """The names of some samples, or their positions in the table that they were read from.

        Args:
            part: positions of samples, from 0 to N - 1, shape (n,).
        """
        rows = self.index[part]
        if self.names is not None:
            return [self.names[row] for row in rows]
        positions: list[Any] = (rows if self.source.rows_train is None else self.source.rows_train[rows]).tolist()
        return positions

    def prepared(self, part: npt.NDArray[np.int64]) -> "Prepared":
        """Some samples as a network takes them.

        Args:
            part: see :meth:`named`.
        """
        from deepsad_pl.detector.inputs import Prepared

        return Prepared(self.source.x_train[self.index[part]])

    def chunks(self, inputs: "Inputs") -> Iterator["Chunk"]:
        """All samples, in chunks that fit into memory.

        Args:
            inputs: inputs of the detector that scores them.
        """
        from deepsad_pl.detector.read_input import Chunk, rows_at_once

        step = rows_at_once(inputs)
        for first in range(0, len(self.index), step):
            part = np.arange(first, min(first + step, len(self.index)))
            ids = self.named(part)
            yield Chunk(ids, [f"training sample {one}" for one in ids], self.prepared(part))


def training_samples(run: Path, data_dir: str | None) -> TrainingSamples:
    """Load the training samples of a finished run.

    Args:
        run: the run folder.
        data_dir: folder of its data; None: as in the run.

    Raises:
        DeepSADError: if the data are missing or have changed.
    """
    plan = planned(run, data_dir)
    from deepsad_pl.data import image_folder
    from deepsad_pl.data.labeled_images import list_labeled
    from deepsad_pl.data.scenario import is_given
    from deepsad_pl.experiment.build import build, load_data
    from deepsad_pl.experiment.plan import root_of

    data = build(plan, load_data(plan)).data
    # Not the loaded source: if calibration samples are kept out, the rows are scaled without them.
    source, drawn = data.source, data.training_set
    called, names = "id", None if source.ids_train is None else source.ids_train.tolist()
    folder = source.folder
    if plan.dataset.about.classes_from_folder:
        folder = root_of(plan.dataset.arguments)
        scan = list_labeled if is_given(plan.scenario) else image_folder.scan
        names = [name for group in scan(folder).images["train"] for name in group]
    if folder is not None and names is not None:
        called, names = "path", [str(folder / name) for name in names]
    return TrainingSamples(plan, source, drawn.index, drawn.semi_y, called, names)
