"""Where Hydra finds the sweeper of ``sweep.py``."""

from hydra.core.config_store import ConfigStore

from deepsad_pl.study import study_sweeper


class StudySweeper(study_sweeper.StudySweeper):
    """``hydra/sweeper=study``."""


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="study",
    node={"_target_": "hydra_plugins.deepsad_study_sweeper.StudySweeper"},
    provider="deepsad_pl",
)
