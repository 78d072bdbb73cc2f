"""End a worker process when the process that started it is gone. Imports almost nothing, so that it can run first."""

import os
import threading
import time
from functools import cache

_LOOK_S = 0.5


@cache
def end_with_the_sweep(sweep: int) -> None:
    """End a joblib worker when its sweep is killed; otherwise it would keep its experiment's lock and its memory.

    Being the initializer of the workers, it watches even while they import torch.

    Args:
        sweep: ID of the process whose worker this is. It may already be dead.
    """

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(_LOOK_S)
        # Safe to end without cleanup, since every file is written atomically.
        os._exit(1)

    threading.Thread(target=watch, name="sweep-watch", daemon=True).start()
