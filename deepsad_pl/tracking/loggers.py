"""The loggers chosen in the ``logger`` group: Weights & Biases by its settings, any other by a ``_target_``.

This module does not import torch, so that a study can be checked and planned without it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from deepsad_pl.common.components import problems_of

# A logger gets the run folder as each of these arguments that it accepts and its node does not set.
RUN_FOLDER = ("save_dir", "run_dir")


def wandb_settings(logger: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of Weights & Biases in the ``logger`` group, or None if it is not chosen."""
    return {**logger, **logger.get("wandb", {})} if "mode" in logger else None


def logger_nodes(logger: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The nodes of all loggers other than Weights & Biases, by name."""
    return {name: node for name, node in logger.items() if isinstance(node, Mapping) and "_target_" in node}


def logger_names(logger: Mapping[str, Any]) -> str:
    """The names of the chosen loggers, for messages."""
    names = [*logger_nodes(logger), *(["wandb"] if wandb_settings(logger) is not None else [])]
    return ", ".join(names) or "none"


def node_problems(logger: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each problem in the nodes of the loggers."""
    for name, node in logger_nodes(logger).items():
        yield from _problems_of(name, json.dumps(node, default=str))


@lru_cache(maxsize=64)
def _problems_of(name: str, node: str) -> list[str]:
    """Cached, since it reads the loggers' source code and all experiments of a sweep have the same loggers."""
    return problems_of(json.loads(node), f"logger.{name}", supplied=RUN_FOLDER)
