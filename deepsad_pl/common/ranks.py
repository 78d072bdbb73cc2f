"""Which process of a distributed run this is, known even before a Trainer exists."""

import os


def is_main_process(ranks: int) -> bool:
    """Whether this is rank 0, according to the environment variables that launchers set.

    Args:
        ranks: number of processes of this run. With 1 the environment is ignored: its ranks may belong to an array of
            independent tasks.
    """
    keys = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")
    return ranks == 1 or all(int(os.environ.get(key) or 0) == 0 for key in keys)


def started_ranks() -> int:
    """The number of processes that SLURM has started for this step; 1 without SLURM and in a batch script itself."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
