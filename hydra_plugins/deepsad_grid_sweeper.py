"""Where Hydra finds the sweeper of ``train.py -m``."""

from hydra.core.config_store import ConfigStore

from deepsad_pl.sweep import grid_sweeper


class GridSweeper(grid_sweeper.GridSweeper):
    """``hydra/sweeper=grid``."""


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grid",
    node={"_target_": "hydra_plugins.deepsad_grid_sweeper.GridSweeper"},
    provider="deepsad_pl",
)
