"""A custom logger for Lightning: appends a line of JSON to a file for each step."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class JSONLinesLogger(Logger):
    """Writes ``metrics.jsonl``.

    Args:
        save_dir: folder of the file; deepsad_pl passes the run folder unless the YAML has another one.
        digits: decimals to which values are rounded.
    """

    name = version = None

    def __init__(self, save_dir: str, digits: int = 4) -> None:
        super().__init__()
        self.path, self.digits = Path(save_dir) / "metrics.jsonl", digits

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder already has a config.yaml."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            rounded = {name: round(value, self.digits) for name, value in metrics.items()}
            file.write(json.dumps({"step": step, **rounded}) + "\n")
