"""Which process this is in a distributed run, also before a Trainer exists."""

import os


def is_main_process(ranks: int) -> bool:
    """Whether this is rank 0; launchers tell through the environment.

    Args:
        ranks: processes of this run. With one, the environment is not asked: it may belong to a farm of tasks.
    """
    keys = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")
    return ranks == 1 or all(int(os.environ.get(key) or 0) == 0 for key in keys)


def started_ranks() -> int:
    """How many processes SLURM has started for this step; 1 without SLURM, and for a batch script itself."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
