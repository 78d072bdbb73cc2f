"""The loggers that the group ``logger`` chooses: Weights & Biases by its settings, each other one by a ``_target_``.

No torch here, so that a study is checked and planned without it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from deepsad_pl.common.components import problems_of

# Of these arguments, a logger gets the run folder for those that it takes and its node does not give.
RUN_FOLDER = ("save_dir", "run_dir")


def wandb_settings(logger: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of Weights & Biases among those of the group, or None if it is not chosen."""
    return {**logger, **logger.get("wandb", {})} if "mode" in logger else None


def logger_nodes(logger: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The node of every other logger, by its name."""
    return {name: node for name, node in logger.items() if isinstance(node, Mapping) and "_target_" in node}


def logger_names(logger: Mapping[str, Any]) -> str:
    """What the chosen loggers are called, for messages."""
    names = [*logger_nodes(logger), *(["wandb"] if wandb_settings(logger) is not None else [])]
    return ", ".join(names) or "none"


def node_problems(logger: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the nodes of loggers, one sentence each."""
    for name, node in logger_nodes(logger).items():
        yield from _problems_of(name, json.dumps(node, default=str))


@lru_cache(maxsize=64)
def _problems_of(name: str, node: str) -> list[str]:
    """Kept, since all experiments of a sweep have the same loggers, whose source is read for it."""
    return problems_of(json.loads(node), f"logger.{name}", supplied=RUN_FOLDER)
