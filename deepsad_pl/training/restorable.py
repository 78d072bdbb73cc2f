"""Check that a checkpoint can be loaded: it has exactly the module's tensors and all that resuming needs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepsad_pl.common.checkpoints import Checkpoint, DamagedError, from_bytes, set_aside
from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.methods.base import TrainedMethod


def usable(path: Path, module: TrainedMethod, *, main: bool = True) -> Checkpoint | None:
    """Read the checkpoint of a finished or unfinished training; None if there is no usable one.

    Args:
        path: path of the checkpoint. A damaged one (incomplete, of another module, not finite) is set aside with a
            warning.
        module: the module that the checkpoint will be loaded into.
        main: whether to set a damaged file aside; only one of several processes that read the same file may do it.

    Raises:
        DeepSADError: if the file exists but cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeepSADError(f"the checkpoint {path} cannot be read ({error}); make it readable or remove it") from error
    try:
        checkpoint = from_bytes(content)
        (require_finished if is_finished(checkpoint) else require_resumable)(checkpoint, module)
    except DamagedError as error:
        if main:
            set_aside(path, "checkpoint", error)
        return None
    return checkpoint


def require_state(state: Any, module: nn.Module) -> None:
    """Check that a state has exactly the tensors of a module: the same names, shapes and types, and finite values.

    Raises:
        DamagedError: if a tensor is missing, superfluous, of another shape or type, or not finite.
    """
    name, expected = type(module).__name__, module.state_dict()
    if not isinstance(state, Mapping):
        raise DamagedError(f"it holds no tensors of a {name}")
    if unlike := state.keys() ^ expected.keys():
        raise DamagedError(f"it is of another module than this {name}: {min(map(str, unlike))} is not in both")
    for key, tensor in expected.items():
        if isinstance(tensor, Tensor):  # extra state may be anything
            _require_like(state[key], tensor, key)


def _require_like(found: Any, tensor: Tensor, key: str) -> None:
    if not isinstance(found, Tensor) or found.shape != tensor.shape or found.dtype != tensor.dtype:
        shape = f"{tuple(found.shape)}, {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise DamagedError(f"{key} is {shape} instead of {tuple(tensor.shape)}, {tensor.dtype}")
    # A module may itself start with an infinite value, such as the best loss so far.
    if not torch.isfinite(found).all() and torch.isfinite(tensor).all():
        raise DamagedError(f"{key} is not finite")


def is_finished(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is of a finished training; checkpoints written during training have no ``spread``."""
    return "spread" in checkpoint


def require_finished(checkpoint: Mapping[str, Any], module: nn.Module) -> None:
    """Check that a checkpoint has everything that a finished training saves.

    Raises:
        DamagedError: if something is missing, or the tensors are not those of the module.
    """
    require_state(checkpoint.get("state_dict"), module)
    try:
        _require_numbers(checkpoint, "seconds")
        _require_numbers(checkpoint["spread"], "initial", "final")
        trained_by_others = checkpoint["reused"]
        if trained_by_others is not None:
            _require_numbers(trained_by_others, "seconds")
        if not isinstance(checkpoint["trained_with"], Mapping):
            raise TypeError("trained_with is no mapping")
    except (KeyError, TypeError) as error:
        raise DamagedError(f"it does not say how it was trained ({error})") from error


def require_resumable(checkpoint: Mapping[str, Any], module: TrainedMethod) -> None:
    """Check that a training can resume: epoch, Lightning's progress, and the states of the callbacks and of Adam.

    Raises:
        DamagedError: if something is missing, or the tensors are not those of the module.
    """
    require_state(checkpoint.get("state_dict"), module)
    try:
        epoch, callbacks = checkpoint["epoch"], checkpoint["callbacks"]
        if type(epoch) is not int or not 0 <= epoch < sum(module.epochs):
            raise ValueError(f"epoch is {epoch!r}")
        _require_numbers(checkpoint, "global_step")
        _require_numbers(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"], "completed")
        _require_numbers(callbacks["EpochCheckpoint"], "seconds")
        _require_numbers(callbacks["CollapseCheck"], "initial", "final")
        if not isinstance(checkpoint["lr_schedulers"], list) or not isinstance(checkpoint["optimizer_states"], list):
            raise TypeError("lr_schedulers or optimizer_states is no list")
        if type(module).configure_optimizers is TrainedMethod.configure_optimizers:
            (state,) = checkpoint["optimizer_states"]
            _require_adam(state, module)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise DamagedError(f"it does not hold what a training goes on with ({error})") from error


def _require_numbers(values: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        if type(values[key]) not in (int, float):
            raise TypeError(f"{key} is a {type(values[key]).__name__}")


def _require_adam(state: Mapping[str, Any], module: TrainedMethod) -> None:
    adam = module.configure_optimizers()
    trained = [parameter for group in adam.param_groups for parameter in group["params"]]
    for found, group in zip(state["param_groups"], adam.param_groups, strict=True):
        for key in ("betas", "eps", "weight_decay"):
            if found[key] != group[key]:
                raise ValueError(f"{key} of Adam is {found[key]}, not {group[key]}")
        _require_numbers(found, "lr")
    # Raises if the number of parameters differs.
    adam.load_state_dict(dict(state))
    for number, of_parameter in state["state"].items():
        if not math.isfinite(of_parameter["step"]):
            raise ValueError(f"step of parameter {number} is {of_parameter['step']}")
        for key in ("exp_avg", "exp_avg_sq"):
            _require_like(of_parameter[key], trained[number].detach(), f"{key} of parameter {number}")
