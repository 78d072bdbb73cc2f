"""Which process this is in a distributed run, also before a Trainer exists."""

import os


def is_main_process() -> bool:
    """Whether this is rank 0; launchers tell through the environment."""
    return all(int(os.environ.get(key, 0)) == 0 for key in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))
