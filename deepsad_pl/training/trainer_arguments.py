"""Check the user's own arguments and callbacks for the Trainer: ``trainer.extra`` and ``trainer.callbacks``.

This module does not import torch, so that studies are checked and planned without it.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepsad_pl.common.components import fingerprint, problems_of, targets_of
from deepsad_pl.common.errors import DeepSADError

# Settings of the trainer group that make_trainer passes on under the same name.
_SETTINGS = ("accelerator", "devices", "num_nodes", "strategy", "precision", "max_epochs", "callbacks")
# Arguments that this package sets itself, each with what to do instead.
_REFUSED = {
    **{key: f"set trainer.{key} instead" for key in _SETTINGS},
    "logger": "choose logger=csv or logger=wandb, or add a logger by logger.<name>._target_ instead",
    "default_root_dir": "set output_dir instead",
    "enable_checkpointing": "set trainer.checkpoint_seconds instead",
    "enable_progress_bar": "leave it out",
    "enable_model_summary": "leave it out",
    "num_sanity_val_steps": "leave it out, as there is no validation set",
    "use_distributed_sampler": "leave it out",
    "plugins": "leave it out",
    "fast_dev_run": "set trainer.max_epochs=1 for a trial run instead",
    "barebones": "leave it out",
}


def has_arguments(trainer: Mapping[str, Any]) -> bool:
    """Whether the trainer settings contain extra arguments or callbacks."""
    return bool(trainer["extra"] or trainer["callbacks"])


def identity_of(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's identity that comes from extra arguments and callbacks; empty without any.

    Args:
        trainer: trainer settings in which :func:`argument_problems` finds nothing.

    Returns:
        ``{}``, or ``{"trainer": {...}}`` with the arguments, and each callback's arguments and code.
    """
    what: dict[str, Any] = {}
    if trainer["extra"]:
        what["extra"] = dict(trainer["extra"])
    if trainer["callbacks"]:
        what["callbacks"] = [
            {**node, "code": [fingerprint(target) for target in targets_of(node)]} for node in trainer["callbacks"]
        ]
    return {"trainer": what} if what else {}


def argument_problems(trainer: Mapping[str, Any]) -> Iterator[str]:
    """Find what is wrong with ``trainer.extra`` and ``trainer.callbacks``, one sentence per problem."""
    extra, callbacks = trainer["extra"] or {}, trainer["callbacks"] or []
    known = trainer_arguments() if extra else frozenset()
    for key, value in extra.items():
        if key in _REFUSED:
            yield f"trainer.extra.{key} is {value!r}, but deepsad_pl sets {key} itself; {_REFUSED[key]}"
        elif key not in known:
            allowed = ", ".join(sorted(known.difference(_REFUSED)))
            yield f"trainer.extra.{key} is no argument of Lightning's Trainer; give some of {allowed}"
    if trainer["precision"] != "32-true" and extra.get("gradient_clip_val"):
        yield (
            f"trainer.extra.gradient_clip_val is {extra['gradient_clip_val']!r}, but with trainer.precision="
            f"{trainer['precision']} Lightning cannot clip the gradients of a fused Adam; use trainer.precision=32-true"
        )
    for number, node in enumerate(callbacks):
        key = f"trainer.callbacks[{number}]"
        if isinstance(node, Mapping) and isinstance(node.get("_target_"), str):
            yield from problems_of(node, key)
        else:
            yield f"{key} is {node!r}; give a mapping with _target_, the callback's class, and its arguments"


@cache
def trainer_arguments() -> frozenset[str]:
    """The names of the arguments of the installed Trainer, read from its source without importing it.

    Raises:
        DeepSADError: if its source is not found.
    """
    spec = find_spec("pytorch_lightning")
    path = Path(spec.origin).parent / "trainer" / "trainer.py" if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise DeepSADError("trainer.extra needs the source of pytorch_lightning, which is not found; install it again")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            (init,) = (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__")
            return frozenset(argument.arg for argument in [*init.args.args, *init.args.kwonlyargs]) - {"self"}
    raise DeepSADError(f"trainer.extra cannot be checked: {path} has no class Trainer; install pytorch_lightning again")
